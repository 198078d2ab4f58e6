"""The facts that .ci/helm holds the chart to. Reads what Helm rendered on standard input."""

import json, os, re, shutil, socket, subprocess, sys, tempfile, threading, yaml
from http.server import BaseHTTPRequestHandler, HTTPServer

# The metrics of a replica, and those of kube-state-metrics that the alerts need.
METRICS = '''http_request_duration_seconds_bucket http_request_duration_seconds_count nodejs_eventloop_lag_p99_seconds process_cpu_seconds_total
    process_resident_memory_bytes chat_postgres_pool_connections chat_postgres_pool_waiting chat_password_queue chat_write_queue
    chat_write_batch_messages_bucket chat_write_batch_messages_sum chat_write_batch_messages_count chat_log_lag_seconds chat_log_in_force chat_log_missed_messages_total
    chat_log_announcer chat_log_publications_total chat_event_streams
    chat_long_polls chat_rate_limit_rejections_total chat_restriction_refusals_total chat_search_queue chat_search_index_lag chat_build_info up kube_deployment_status_replicas_available
    kube_deployment_spec_replicas kube_pod_container_status_restarts_total kube_pod_container_resource_limits
    kube_horizontalpodautoscaler_status_desired_replicas kube_horizontalpodautoscaler_spec_max_replicas'''.split()
CUSTOM = {
    'ServiceMonitor': 'prometheus-operator/monitoring.coreos.com/v1',
    'PodMonitor': 'prometheus-operator/monitoring.coreos.com/v1',
    'PrometheusRule': 'prometheus-operator/monitoring.coreos.com/v1',
    'HTTPRoute': 'gateway-api/gateway.networking.k8s.io/v1',
}
VOLUMES = {
    'name',
    'configMap',
    'csi',
    'downwardAPI',
    'emptyDir',
    'ephemeral',
    'persistentVolumeClaim',
    'projected',
    'secret',
}
failed = False


def check(what, value, expected=True):
    global failed
    if value == expected:
        return print(f'ok - {what}')
    failed = True
    print(f'not ok - {what}: {value!r} instead of {expected!r}')


class Loader(yaml.SafeLoader):
    """Refuses a key that appears twice, as kubectl and the API server do."""

    def construct_mapping(self, node, deep=False):
        mapping = super().construct_mapping(node, deep)
        if len(mapping) < len(node.value):
            keys = [key.value for key, _ in node.value]
            raise yaml.constructor.ConstructorError(None, None, f'{keys} has one twice', node.start_mark)
        return mapping


def read(text):
    return list(filter(None, yaml.load_all(text, Loader)))


def pod_of(item):
    return item['spec'] if item['kind'] == 'Pod' else item['spec'].get('template', {}).get('spec')


def pods(objects):
    return [pod for pod in map(pod_of, (o for o in objects if 'spec' in o)) if pod]


def containers(pod):
    return pod.get('initContainers', []) + pod['containers']


def unsafe(pod):
    """Pod Security `restricted` in the words of its definition, and the few things beyond it that hold for every pod here."""
    own = pod.get('securityContext', {})
    yield from (f'{key} is set' for key in ('hostNetwork', 'hostPID', 'hostIPC') if pod.get(key))
    yield from (f'volume {v}' for v in pod.get('volumes', []) if not set(v) <= VOLUMES)
    yield from (
        f'{key} is set'
        for key in ('sysctls', 'seLinuxOptions', 'windowsOptions', 'appArmorProfile')
        if key in own
    )
    if own.get('seccompProfile') != {'type': 'RuntimeDefault'}:
        yield 'no seccomp profile'
    if own.get('runAsNonRoot') is not True:
        yield 'may run as root'
    if own.get('runAsUser', 1) <= 0:
        yield 'runs as root'
    if pod.get('automountServiceAccountToken') is not False:
        yield 'has a token'
    if pod.get('enableServiceLinks') is not False:
        yield 'has service links'
    for container in containers(pod):
        name, rights = container['name'], container.get('securityContext', {})
        if rights != {
            'allowPrivilegeEscalation': False,
            'readOnlyRootFilesystem': True,
            'capabilities': {'drop': ['ALL']},
        }:
            yield f'{name}: {rights}'
        if any('hostPort' in port for port in container.get('ports', [])):
            yield f'{name}: hostPort'
        if 'limits' not in container.get('resources', {}):
            yield f'{name}: no limits'
        names = [entry['name'] for entry in container.get('env', [])]
        if len(names) != len(set(names)):
            yield f'{name}: {names} has one twice'
        if container['image'].startswith(('registry.example/chat-backend', 'chat-backend')) and container[
            'command'
        ] != ['/nodejs/bin/node']:
            yield f"{name}: starts {container['command']}"


def manifests(helm, version, *files):
    from kubernetes_validate import utils

    def invalid(item):
        try:
            utils.validate(item, version, strict=True)
        except utils.ValidationError as error:
            return f"{item['kind']} {item['metadata']['name']}: {error.message}"

    for file in files:
        name, objects = os.path.basename(file).split('.')[0], read(open(file))
        check(
            f'{helm} renders {name} as Kubernetes {version} wants it',
            list(filter(None, (invalid(o) for o in objects if o['kind'] not in CUSTOM))),
            [],
        )
        check(
            f'{helm} renders {name} under Pod Security restricted',
            [bad for pod in pods(objects) for bad in unsafe(pod)],
            [],
        )


def waits(container, form):
    """Runs what an init container runs, with Node and the service from here, while its engine listens."""
    engine = container['args'][1]
    host, family = ('::1', socket.AF_INET6) if form == 'IPv6 URL' else ('127.0.0.1', socket.AF_INET)
    with socket.create_server((host, 0), family=family) as server:
        port = server.getsockname()[1]
        name = f'[{host}]' if family == socket.AF_INET6 else host
        address = (
            {'HOST': host, 'PORT': str(port)}
            if form == 'host'
            else {'URL': f'{engine}://user:secret@{name}:{port}/0'}
        )
        env = {key: value for key, value in os.environ.items() if not key.startswith(('POSTGRES_', 'REDIS_'))}
        env |= {f'{engine.upper()}_{key}': value for key, value in address.items()}
        return subprocess.run(
            ['timeout', '10', 'node', *container['args']], env=env, stdout=subprocess.DEVNULL
        ).returncode


def tests(pod, status):
    """Runs what the test pod runs against a service that answers readyz with this status."""

    class Service(BaseHTTPRequestHandler):
        def do_GET(self):
            ready = self.path == '/health/readyz'
            self.send_response(status if ready else 200)
            self.end_headers()
            self.wfile.write(json.dumps({'status': 'ok'} if ready else []).encode())

        def log_message(self, *_):
            pass

    with HTTPServer(('127.0.0.1', 0), Service) as server:
        threading.Thread(target=server.serve_forever).start()
        arguments = [*pod['containers'][0]['args'][:2], f'http://127.0.0.1:{server.server_address[1]}']
        code = subprocess.run(['timeout', '10', 'node', *arguments], stdout=subprocess.DEVNULL).returncode
        server.shutdown()
        return code


def names(objects):
    return sorted(f"{o['kind']} {o['metadata']['name']}" for o in objects)


def one(objects, kind, name='chat-backend'):
    return next(o for o in objects if o['kind'] == kind and o['metadata']['name'] == name)


def environment(container):
    return {
        entry['name']: entry.get('value') or '{name}:{key}'.format(**entry['valueFrom']['secretKeyRef'])
        for entry in container['env']
    }


def seed(helm):
    objects = read(sys.stdin)
    deployment, service, ingress = (
        one(objects, 'Deployment'),
        one(objects, 'Service'),
        one(objects, 'Ingress', 'chat-backend-ingress'),
    )
    pod = deployment['spec']['template']['spec']
    main, inits = pod['containers'][0], pod['initContainers']
    check(
        f'{helm} renders these objects',
        names(objects),
        [
            'Deployment chat-backend',
            'Ingress chat-backend-ingress',
            'Pod chat-backend-test',
            'Service chat-backend',
        ],
    )
    label = {'app': 'chat-backend'}
    check(
        f'{helm} selects the pods by the label app alone',
        [deployment['spec']['selector'], service['spec']['selector']],
        [{'matchLabels': label}, label],
    )
    check(
        f'{helm} gives the pods that label',
        label.items() <= deployment['spec']['template']['metadata']['labels'].items(),
    )
    check(
        f'{helm} names the containers',
        [c['name'] for c in (*inits, main)],
        ['wait-for-postgres', 'wait-for-redis', 'chat-backend'],
    )
    sources = [
        ('secretRef', 'db-secret'),
        ('secretRef', 'redis-secret'),
        ('configMapRef', 'project-example-config'),
        ('configMapRef', 'db-config'),
        ('configMapRef', 'redis-config'),
    ]
    check(
        f'{helm} reads Secrets and ConfigMaps in order',
        [c['envFrom'] for c in (*inits, main)],
        [[{kind: {'name': name}} for kind, name in sources]] * 3,
    )
    check(
        f'{helm} leaves the shared tables to Django',
        environment(main),
        {'HTTP_PORT': '8080', 'MIGRATE': 'own'},
    )
    check(
        f'{helm} upgrades without a gap',
        deployment['spec']['strategy'],
        {'type': 'RollingUpdate', 'rollingUpdate': {'maxSurge': 1, 'maxUnavailable': 0}},
    )
    check(
        f'{helm} serves on until nobody is sent here',
        main['lifecycle'],
        {'preStop': {'sleep': {'seconds': 5}}},
    )
    check(f'{helm} leaves time for an orderly end', pod['terminationGracePeriodSeconds'] > 5 + 25)
    startup, liveness, readiness = (main[f'{name}Probe'] for name in ('startup', 'liveness', 'readiness'))
    check(
        f'{helm} asks for health',
        [(p['httpGet']['path'], p['httpGet']['port']) for p in (startup, liveness, readiness)],
        [('/health/livez', 'http'), ('/health/livez', 'http'), ('/health/readyz?for=reads', 'http')],
    )
    check(
        f'{helm} bears a readiness of 2 s and a start of 60 s',
        [readiness['timeoutSeconds'] > 2, startup['periodSeconds'] * startup['failureThreshold'] > 60],
        [True, True],
    )
    check(
        f'{helm} serves port 8080',
        [main['ports'], service['spec']['ports'], service['spec']['type']],
        [
            [{'name': 'http', 'containerPort': 8080}],
            [{'name': 'http', 'port': 8080, 'targetPort': 'http'}],
            'ClusterIP',
        ],
    )
    check(
        f'{helm} routes /api alone, for the host and class of the old release',
        ingress['spec'],
        {
            'ingressClassName': 'nginx',
            'tls': [{'hosts': ['project.example'], 'secretName': 'project-example-tls'}],
            'rules': [
                {
                    'host': 'project.example',
                    'http': {
                        'paths': [
                            {
                                'path': '/api',
                                'pathType': 'Prefix',
                                'backend': {'service': {'name': 'chat-backend', 'port': {'name': 'http'}}},
                            }
                        ]
                    },
                }
            ],
        },
    )
    nginx = 'nginx.ingress.kubernetes.io/proxy-'
    check(
        f'{helm} has nginx hand streams on, and cut none',
        ingress['metadata']['annotations'],
        {f'{nginx}buffering': 'off', f'{nginx}read-timeout': '3600', f'{nginx}send-timeout': '3600'},
    )
    for form in ('host', 'URL', 'IPv6 URL'):
        check(f'{helm} waits for both engines by {form}', [waits(c, form) for c in inits], [0, 0])
    test = one(objects, 'Pod', 'chat-backend-test')
    check(
        f'{helm} tests what is ready, and only that',
        [tests(test['spec'], status) for status in (200, 503)],
        [0, 1],
    )
    check(
        f'{helm} has no test before it is asked for', test['metadata']['annotations']['helm.sh/hook'], 'test'
    )


def minimal(helm):
    objects = read(sys.stdin)
    check(
        f'{helm} renders no more than it must',
        names(objects),
        ['Deployment chat-chat-backend', 'Pod chat-chat-backend-test', 'Service chat-chat-backend'],
    )
    check(
        f'{helm} takes the passwords from the Secrets',
        environment(
            one(objects, 'Deployment', 'chat-chat-backend')['spec']['template']['spec']['containers'][0]
        ),
        {
            'HTTP_PORT': '8080',
            'MIGRATE': 'on',
            'POSTGRES_HOST': 'postgres',
            'POSTGRES_PASSWORD': 'postgres:password',
            'REDIS_HOST': 'valkey',
            'REDIS_PASSWORD': 'valkey:password',
        },
    )


def engines(helm):
    objects = read(sys.stdin)
    example = read(open('helm/examples/engines.yaml'))
    env = environment(
        one(objects, 'Deployment', 'chat-chat-backend')['spec']['template']['spec']['containers'][0]
    )
    check(
        f'{helm} finds the engines of the example',
        [(o['metadata']['name'], o['spec']['ports'][0]['port']) for o in example if o['kind'] == 'Service'],
        [(env['POSTGRES_HOST'], 5432), (env['REDIS_HOST'], 6379)],
    )


def operators(helm):
    env = environment(
        one(read(sys.stdin), 'Deployment', 'chat-chat-backend')['spec']['template']['spec']['containers'][0]
    )
    cluster, valkey = (
        read(open('helm/examples/cloudnative-pg.yaml'))[0],
        read(open('helm/examples/valkey-values.yaml'))[0],
    )
    secret = f"{cluster['metadata']['name']}-app"
    check(
        f"{helm} finds CloudNativePG's PostgreSQL",
        {k: v for k, v in env.items() if k.startswith('POSTGRES')},
        {
            f'POSTGRES_{k}': f'{secret}:{v}'
            for k, v in {
                'HOST': 'host',
                'PORT': 'port',
                'DB': 'dbname',
                'USER': 'username',
                'PASSWORD': 'password',
            }.items()
        },
    )
    check(
        f"{helm} finds Valkey's password",
        env['REDIS_PASSWORD'],
        f"{valkey['auth']['usersExistingSecret']}:{next(iter(valkey['auth']['aclUsers']))}",
    )


def openshift(helm):
    """What restricted-v2 demands beyond Pod Security restricted: no user, group or SELinux label of one's own."""
    chosen = ('runAsUser', 'runAsGroup', 'fsGroup', 'supplementalGroups', 'seLinuxOptions')
    found = [
        key
        for pod in pods(read(sys.stdin))
        for own in (pod['securityContext'], *(c['securityContext'] for c in containers(pod)))
        for key in chosen
        if key in own
    ]
    check(f'{helm} lets the cluster choose user and groups', found, [])


def full(helm):
    name, objects = 'chat-room', read(sys.stdin)
    deployment, job, service = (
        one(objects, 'Deployment', name),
        one(objects, 'Job', f'{name}-migrate'),
        one(objects, 'Service', name),
    )
    pod = deployment['spec']['template']['spec']
    main, migrate = pod['containers'][0], pod_of(job)['containers'][0]
    check(
        f'{helm} renders everything',
        names(objects),
        sorted(
            [
                'ConfigMap chat-authority',
                f'ConfigMap {name}-dashboard',
                f'ConfigMap {name}-extra',
                f'Deployment {name}',
                f'HTTPRoute {name}',
                f'HorizontalPodAutoscaler {name}',
                f'Ingress {name}',
                f'Job {name}-migrate',
                f'NetworkPolicy {name}',
                f'NetworkPolicy {name}-migrate',
                f'Pod {name}-test',
                f'PodDisruptionBudget {name}',
                f'PrometheusRule {name}',
                f'Service {name}',
                f'ServiceAccount {name}',
                f'ServiceMonitor {name}',
            ]
        ),
    )
    maps = {o['metadata']['name'] for o in objects if o['kind'] == 'ConfigMap'}
    used = {v['configMap']['name'] for p in pods(objects) for v in p.get('volumes', [])} | {
        s['configMapRef']['name'] for c in containers(pod) for s in c.get('envFrom', [])
    }
    check(f'{helm} renders the ConfigMaps that the pods use', [bool(used), used - maps], [True, set()])
    check(f'{helm} leaves the count to the autoscaler', 'replicas' in deployment['spec'], False)
    check(
        f'{helm} takes the image from the registry of all charts, by its digest',
        {c['image'] for p in pods(objects) for c in containers(p) if c['name'] not in ('first', 'proxy')},
        {'registry.example/chat-backend@sha256:' + '0123456789abcdef' * 4},
    )
    check(
        f'{helm} adds containers',
        [[c['name'] for c in pod[key]] for key in ('initContainers', 'containers')],
        [['first', 'wait-for-postgres', 'wait-for-redis'], ['chat-backend', 'proxy']],
    )
    check(
        f'{helm} gives every object the common labels',
        [o['kind'] for o in objects if o['metadata'].get('labels', {}).get('example.com/team') != 'chat'],
        ['ConfigMap'] * 2,
    )
    check(
        f'{helm} reads the secrets of every registry',
        {s['name'] for p in pods(objects) for s in p['imagePullSecrets']},
        {'registry', 'everyone'},
    )
    check(
        f'{helm} runs the pods as their ServiceAccount, but not the migration before it exists',
        [p.get('serviceAccountName') for p in (pod, pod_of(job))],
        [name, None],
    )
    check(
        f'{helm} serves both families',
        [service['spec'][key] for key in ('ipFamilyPolicy', 'ipFamilies', 'type')],
        ['PreferDualStack', ['IPv6', 'IPv4'], 'LoadBalancer'],
    )
    check(
        f'{helm} serves at the port that was asked for',
        [
            service['spec']['ports'],
            one(objects, 'HTTPRoute', name)['spec']['rules'][0]['backendRefs'],
            one(objects, 'Pod', f'{name}-test')['spec']['containers'][0]['args'][-1],
        ],
        [
            [{'name': 'http', 'port': 80, 'targetPort': 'http', 'nodePort': 30080}],
            [{'name': name, 'port': 80}],
            f'http://{name}:80',
        ],
    )
    check(
        f'{helm} waits for as long as it is told, and ends in time',
        [main['lifecycle'], pod['terminationGracePeriodSeconds']],
        [{'preStop': {'sleep': {'seconds': 15}}}, 45],
    )
    variables = {
        'HTTP_PORT': '8080',
        'MIGRATE': 'off',
        'TRUST_PROXY': '10.0.0.0/8,fd00::/8',
        'POSTGRES_HOST': 'chat-db-app:host',
        'POSTGRES_PORT': '6432',
        'POSTGRES_DB': 'chat-db-app:dbname',
        'POSTGRES_USER': 'chat-db-app:username',
        'POSTGRES_PASSWORD': 'chat-db-app:password',
        'REDIS_URL': 'valkey-url:url',
        'OTEL_EXPORTER_OTLP_ENDPOINT': 'http://collector.observability:4318',
        'NODE_EXTRA_CA_CERTS': '/etc/chat/authority/ca.crt',
    }
    check(f'{helm} reads Secrets by key, and extraEnv wins', environment(main), variables)
    check(
        f'{helm} migrates as the owner, and grants the tables to the role that serves',
        environment(migrate),
        variables
        | {
            'MIGRATE': 'only',
            'MIGRATE_GRANT_TO': 'chat',
            'POSTGRES_USER': 'owner',
            'POSTGRES_PASSWORD': 'chat-db-owner:password',
        },
    )
    check(f'{helm} migrates with what serves', [migrate['args'], main['args']], [['dist/src/server.js']] * 2)
    check(
        f'{helm} migrates before all else',
        job['metadata']['annotations']['helm.sh/hook'],
        'pre-install,pre-upgrade',
    )
    check(
        f'{helm} ends the migration before Helm gives up, with few attempts, and removes it later',
        [
            job['spec']['activeDeadlineSeconds'] < 300,
            job['spec']['backoffLimit'] <= 2,
            job['spec']['ttlSecondsAfterFinished'] <= 3600,
        ],
        [True] * 3,
    )
    selected = service['spec']['selector']
    check(
        f'{helm} sends nobody to the migration and the test',
        [
            selected.items() <= o['metadata']['labels'].items()
            for o in (job, job['spec']['template'], one(objects, 'Pod', f'{name}-test'))
        ],
        [False] * 3,
    )
    ingress = one(objects, 'Ingress', name)
    check(
        f'{helm} takes the class and the annotations of others',
        [ingress['spec']['ingressClassName'], ingress['metadata']['annotations']],
        ['haproxy', {'haproxy.org/timeout-server': '1h'}],
    )
    routes = one(objects, 'HTTPRoute', name)['spec']['rules'][0]['matches']
    web = [('Prefix', '/web'), ('Exact', '/')]
    check(
        f'{helm} routes the web client for each host, and /metrics not',
        [
            [rule['host'], *((p['pathType'], p['path']) for p in rule['http']['paths'])]
            for rule in ingress['spec']['rules']
        ],
        [
            ['chat.example', ('Prefix', '/api'), *web],
            ['*.chat.example', ('Prefix', '/api'), ('Exact', '/health/livez'), *web],
        ],
    )
    check(
        f'{helm} routes the same through the Gateway',
        [(r['path']['type'], r['path']['value']) for r in routes],
        [('PathPrefix', '/api'), ('PathPrefix', '/web'), ('Exact', '/')],
    )
    policy, before = (one(objects, 'NetworkPolicy', each) for each in (name, f'{name}-migrate'))
    check(
        f'{helm} lets in the test',
        {'podSelector': {'matchLabels': {'app': f'{name}-test'}}} in policy['spec']['ingress'][0]['from'],
    )
    check(
        f'{helm} lets out to DNS, both engines and the collector, and to any port that only a Secret knows',
        [[p['port'] for p in rule.get('ports', [])] for rule in policy['spec']['egress']],
        [[53, 53, 5353, 5353], [6432], [], [4318]],
    )
    check(
        f'{helm} lets the migration out before it runs',
        [
            before['spec']['egress'],
            before['metadata']['annotations']['helm.sh/hook'],
            int(before['metadata']['annotations']['helm.sh/hook-weight']) < 0,
            before['spec']['podSelector']['matchLabels'].items()
            <= job['spec']['template']['metadata']['labels'].items(),
        ],
        [policy['spec']['egress'], 'pre-install,pre-upgrade', True, True],
    )


def variants(helm, program, chart):
    minimal = ('--namespace', 'chat', '--values', f'{chart}/ci/minimal-values.yaml')

    def template(release, *arguments):
        return read(
            subprocess.run(
                [program, 'template', release, chart, *arguments], capture_output=True, check=True, text=True
            ).stdout
        )

    def render(*arguments):
        return template('chat-backend', *minimal, *arguments)

    def kinds(*arguments):
        return {o['kind'] for o in render(*arguments)}

    check(
        f'{helm} budgets disruption only above one replica',
        ['PodDisruptionBudget' in kinds('--set', f'replicaCount={n}') for n in (0, 1, 2)],
        [False, False, True],
    )
    check(
        f'{helm} budgets disruption only above one replica of the autoscaler',
        [
            'PodDisruptionBudget'
            in kinds('--set', f'replicaCount=3,autoscaling.enabled=true,autoscaling.minReplicas={n}')
            for n in (1, 2)
        ],
        [False, True],
    )

    def labels(settings, kind):
        return one(render('--set', settings), kind)['metadata']['labels']

    monitors = 'metrics.serviceMonitor.enabled=true,metrics.serviceMonitor.labels.app=prometheus'
    for settings, kind, key, value in (
        ('commonLabels.a=common,service.labels.a=own', 'Service', 'a', 'own'),
        ('service.labels.helm\\.sh/chart=own', 'Service', 'helm.sh/chart', 'own'),
        (monitors, 'ServiceMonitor', 'app', 'prometheus'),
        (
            'metrics.prometheusRule.enabled=true,metrics.prometheusRule.labels.app=prometheus',
            'PrometheusRule',
            'app',
            'prometheus',
        ),
    ):
        check(f'{helm} prefers the labels of one object: {settings}', labels(settings, kind)[key], value)
    check(
        f'{helm} has the ServiceMonitor select by the label of the Service',
        one(render('--set', monitors), 'ServiceMonitor')['spec']['selector']['matchLabels'],
        {'app': labels(monitors, 'Service')['app']},
    )

    def allowed(entries):
        extra = f'migrationJob.extraEnv={json.dumps(entries)}'
        objects = render('--set', 'networkPolicy.enabled=true,migrate=job', '--set-json', extra)
        return [
            [
                [port['port'] for port in rule.get('ports', [])]
                for rule in one(objects, 'NetworkPolicy', f'chat-backend{suffix}')['spec']['egress'][1:]
            ]
            for suffix in ('', '-migrate')
        ]

    port = {'name': 'POSTGRES_PORT', 'value': '5433'}
    url = {'name': 'POSTGRES_URL', 'value': 'postgres://x:5434'}
    own = [[5432], [6379]]
    check(
        f'{helm} lets the migration out to its own port of PostgreSQL, and to any that a URL may name',
        [allowed(entries) for entries in ([port], [url], [url, port])],
        [[own, [[5433], [6379]]], [own, [[], [6379]]], [own, [[], [6379]]]],
    )
    check(
        f'{helm} leaves nothing of the migration behind when it is uninstalled',
        [
            (o['kind'], o['metadata']['annotations']['helm.sh/hook-delete-policy'])
            for o in render('--set', 'networkPolicy.enabled=true,migrate=job')
            if 'pre-install' in o['metadata'].get('annotations', {}).get('helm.sh/hook', '')
        ],
        [(kind, 'before-hook-creation,hook-succeeded') for kind in ('NetworkPolicy', 'Job')],
    )
    pod = pods(render('--set', 'preStopSeconds=0,waitForEngines=false'))
    spec = next(p for p in pod if 'terminationGracePeriodSeconds' in p)
    check(
        f'{helm} can do without waiting',
        [
            'lifecycle' in spec['containers'][0],
            'initContainers' in spec,
            spec['terminationGracePeriodSeconds'],
        ],
        [False, False, 30],
    )

    def users(settings):
        return [
            [pod['securityContext'].get(key) for key in ('runAsUser', 'runAsGroup')]
            for pod in pods(render('--set', settings))
        ]

    check(
        f'{helm} leaves user and group to the cluster, or takes any',
        [
            users('migrate=job'),
            users('migrate=job,podSecurityContext.runAsUser=1000660000,podSecurityContext.runAsGroup=0'),
        ],
        [[[None, None]] * 3, [[1000660000, 0]] * 3],
    )
    rules = next(
        o
        for o in render('--set', 'fullnameOverride=d,metrics.prometheusRule.enabled=true')
        if o['kind'] == 'PrometheusRule'
    )
    text = json.dumps(rules['spec'])
    check(
        f'{helm} asks for its own signals alone',
        [
            sorted(set(re.findall(rf'{key}=\\"([^"]*)\\"(,namespace=\\"chat\\")?', text)))
            for key in ('job', 'deployment', 'container')
        ],
        [[(value, ',namespace=\\"chat\\"')] for value in ('d', 'd', 'chat-backend')],
    )

    full = ('--namespace', 'chat', '--values', f'{chart}/ci/full-values.yaml', '--set', 'extraObjects=null')
    releases = [template(release, *full) for release in ('one', 'two')]
    check(
        f'{helm} names no object of two releases in one namespace the same',
        set(names(releases[0])) & set(names(releases[1])),
        set(),
    )
    selectors = [
        [
            o['spec']['selector'].get('matchLabels', o['spec']['selector'])
            for o in release
            if o['kind'] in ('Deployment', 'Service', 'PodDisruptionBudget')
        ]
        for release in releases
    ]
    labels = [
        one(release, 'Deployment', f'{name}-room')['spec']['template']['metadata']['labels']
        for release, name in zip(releases, ('one', 'two'))
    ]
    check(
        f'{helm} selects the pods of one release alone',
        [[s.items() <= pod.items() for s in each] for each in selectors for pod in labels],
        [[True] * 3, [False] * 3, [False] * 3, [True] * 3],
    )
    check(
        f'{helm} names everything after the release',
        [
            names(template(release, *minimal))[0]
            for release in ('chat', 'chat-backend', 'my-chat-backend', 'a.b', 'r' * 53)
        ],
        [
            'Deployment chat-chat-backend',
            'Deployment chat-backend',
            'Deployment my-chat-backend',
            'Deployment a-b-chat-backend',
            'Deployment ' + 'r' * 52,
        ],
    )
    numbers = 'nameOverride=1,priorityClassName=2,serviceAccount.name=3,ingress.name=4'
    numbers += ',service.loadBalancerClass=5'
    objects = render('--set', 'ingress.enabled=true,service.type=LoadBalancer', '--set-string', numbers)
    deployment, service = (one(objects, kind, 'chat-backend-1') for kind in ('Deployment', 'Service'))
    check(
        f'{helm} keeps names that look like numbers',
        [
            deployment['metadata']['labels']['app.kubernetes.io/name'],
            deployment['spec']['template']['metadata']['labels']['app.kubernetes.io/name'],
            deployment['spec']['template']['spec']['priorityClassName'],
            deployment['spec']['template']['spec']['serviceAccountName'],
            [o['metadata']['name'] for o in objects if o['kind'] == 'Ingress'],
            service['spec']['loadBalancerClass'],
        ],
        ['1', '1', '2', '3', ['4'], '5'],
    )
    check(
        f'{helm} takes its name from values',
        [names(render('--set', f'{key}=room'))[0] for key in ('nameOverride', 'fullnameOverride')],
        ['Deployment chat-backend-room', 'Deployment room'],
    )
    check(
        f'{helm} renders nothing where an umbrella chart has switched it off',
        template('chat', '--set', 'enabled=false'),
        [],
    )

    def ports(*settings):
        rules = one(render('--set', 'networkPolicy.enabled=true', *settings), 'NetworkPolicy')['spec'][
            'egress'
        ][1:]
        return [[p['port'] for p in rule.get('ports', [])] for rule in rules]

    secret = (
        'postgres.existingSecret=db,postgres.secretKeys.{0}=x,redis.existingSecret=r,redis.secretKeys.{0}=x'
    )
    env = 'extraEnv[0].name=POSTGRES_PORT,extraEnv[1].name=REDIS_PORT,'
    check(
        f'{helm} lets out to the ports that it knows, and to any where a Secret may hold them',
        [
            ports(),
            ports('--set', 'postgres.port=6432,redis.port=6380'),
            ports('--set', secret.format('port')),
            ports('--set', secret.format('url')),
            ports(
                '--set',
                env + 'extraEnv[0].value=1,extraEnv[1].value=2',
                '--set-string',
                'extraEnv[0].value=6432,extraEnv[1].value=6380',
            ),
            ports(
                '--set',
                env
                + 'extraEnv[0].valueFrom.secretKeyRef.name=a,extraEnv[0].valueFrom.secretKeyRef.key=b,extraEnv[1].valueFrom.secretKeyRef.name=a,extraEnv[1].valueFrom.secretKeyRef.key=b',
            ),
            ports('--set', 'envFrom[0].secretRef.name=db'),
            ports(
                '--set',
                'envFrom[0].secretRef.name=db,networkPolicy.postgresPorts[0]=5433,networkPolicy.redisPorts[0]=6390',
            ),
            ports(
                '--set',
                'extraEnv[0].name=POSTGRES_URL,extraEnv[0].value=x,extraEnv[1].name=REDIS_SENTINELS,extraEnv[1].value=x',
            ),
        ],
        [
            [[5432], [6379]],
            [[6432], [6380]],
            [[], []],
            [[], []],
            [[6432], [6380]],
            [[], []],
            [[], []],
            [[5433], [6390]],
            [[], []],
        ],
    )
    test = one(render(), 'Pod', 'chat-backend-test')
    check(
        f'{helm} keeps the test for its log',
        'hook-succeeded' in test['metadata']['annotations']['helm.sh/hook-delete-policy'],
        False,
    )

    # --reuse-values renders with the defaults of the older chart: names that are gone, or values that were
    # not there yet.
    defaults = yaml.safe_load(open(f'{chart}/values.yaml'))

    def reused(values):
        with tempfile.TemporaryDirectory() as folder:
            shutil.copytree(chart, folder, dirs_exist_ok=True)
            with open(f'{folder}/values.yaml', 'w') as file:
                yaml.safe_dump(values, file)
            run = subprocess.run(
                [program, 'template', 'chat', folder, '--values', f'{chart}/ci/minimal-values.yaml'],
                capture_output=True,
                text=True,
            )
            return run.returncode != 0 and '--reset-then-reuse-values' in run.stderr

    older = {
        key: value
        for key, value in defaults.items()
        if key not in ('replicaCount', 'global', 'serviceAccount', 'podSecurityContext', 'securityContext')
    } | {'replicas': 1, 'runAsUser': 65532}
    younger = (
        {key: value for key, value in defaults.items() if key != missing}
        for missing in ('global', 'serviceAccount', 'service', 'networkPolicy', 'metrics')
    )
    check(
        f'{helm} says what to do instead of --reuse-values',
        [reused(values) for values in (older, *younger)],
        [True] * 6,
    )

    schema = json.load(open(f'{chart}/values.schema.json'))

    def open_objects(node, path='$'):
        if isinstance(node, dict):
            if (
                node.get('type') == 'object'
                and 'properties' in node
                and node.get('additionalProperties') is not False
            ):
                yield path
            for key, value in node.items():
                yield from open_objects(value, f'{path}.{key}')
        elif isinstance(node, list):
            for index, value in enumerate(node):
                yield from open_objects(value, f'{path}[{index}]')

    # Of these the chart reads a part, and hands on everything.
    handed_on = {
        f'$.properties.{key}'
        for key in (
            'global',
            'podSecurityContext',
            'securityContext',
            'extraInitContainers.items',
            'extraContainers.items',
        )
    }
    check(
        f'{helm} knows every value',
        [
            schema['$schema'],
            [p for p in open_objects(schema) if 'extraVolumeMounts' not in p and p not in handed_on],
        ],
        ['http://json-schema.org/draft-07/schema#', []],
    )

    def silent(node):
        if isinstance(node, dict):
            yield from ['not'] if 'not' in node else []
            for value in node.values():
                yield from silent(value)
        elif isinstance(node, list):
            for value in node:
                yield from silent(value)

    check(f"{helm} refuses nothing with \"'not' failed\"", list(silent(schema)), [])


def models():
    """TypeScript with the custom resources as literals of their types, which refuse an unknown field."""
    resources = [o for o in read(sys.stdin) if o['kind'] in CUSTOM]
    found = {o['kind'] for o in resources}
    assert found == set(CUSTOM), found
    for kind in sorted(found):
        print(f"import {{ {kind} }} from '@kubernetes-models/{CUSTOM[kind]}'")
    for item in resources:
        assert item['apiVersion'] == CUSTOM[item['kind']].split('/', 1)[1], item['apiVersion']
        print(
            f"new {item['kind']}({json.dumps({key: value for key, value in item.items() if key not in ('apiVersion', 'kind')})}).validate()"
        )


def rules():
    print(json.dumps(read(sys.stdin)[0]['spec']))


def signals(chart, output):
    groups = read(open(f'{chart}/files/alerts.yaml'))[0]['groups']
    alerts = [rule for group in groups for rule in group['rules']]
    check(
        'every alert has a severity, a summary, a description and a runbook',
        [
            a['alert']
            for a in alerts
            if a['labels']['severity'] not in ('critical', 'warning')
            or set(a['annotations']) != {'summary', 'description', 'runbook_url'}
            or a['annotations']['runbook_url'] != f"docs/runbook.md#{a['alert'].lower()}"
        ],
        [],
    )
    if os.path.exists('docs/runbook.md'):
        headings = {
            re.sub(r'[^a-z0-9]', '', line.lower())
            for line in open('docs/runbook.md')
            if line.startswith('#')
        }
        check(
            'every alert has a section in docs/runbook.md',
            [a['alert'] for a in alerts if a['alert'].lower() not in headings],
            [],
        )
    tested = open('test/helm/alerts.yaml').read()
    check(
        'every alert has a test',
        [a['alert'] for a in alerts if f"alertname=\"{a['alert']}\"" not in tested],
        [],
    )
    dashboard = json.load(open(f'{chart}/files/dashboard.json'))
    asked = [
        target['expr'].replace('$__rate_interval', '5m')
        for panel in dashboard['panels']
        for target in panel.get('targets', [])
    ]
    ids = [panel['id'] for panel in dashboard['panels']]
    check(
        'the dashboard has panels, each with its own id and a description',
        [
            len(asked) > 20,
            len(set(ids)) == len(ids),
            all(panel['type'] == 'row' or panel['description'] for panel in dashboard['panels']),
        ],
        [True] * 3,
    )

    def used(expression):
        plain = re.sub(r'"[^"]*"|\{[^}]*\}|\[[^\]]*\]|\b(by|on|without) \([^)]*\)', ' ', expression)
        return {
            word
            for word in re.findall(r'[a-z_][a-z0-9_]*', plain)
            if '_' in word and word not in ('histogram_quantile', 'min_over_time') or word == 'up'
        }

    for what, expressions in (('alerts', [a['expr'] for a in alerts]), ('dashboard', asked)):
        check(
            f'only known metrics are used: {what}',
            sorted(set().union(*map(used, expressions)) - set(METRICS)),
            [],
        )
    own = {name for name in METRICS if name.startswith(('chat_', 'http_', 'nodejs_', 'process_'))}
    check('the dashboard shows every metric of the service', sorted(own - set().union(*map(used, asked))), [])
    with open(output, 'w') as file:
        json.dump(
            {
                'groups': [
                    {
                        'name': 'dashboard',
                        'rules': [{'record': f'panel:{n}', 'expr': e} for n, e in enumerate(asked)],
                    }
                ]
            },
            file,
        )


globals()[sys.argv[1]](*sys.argv[2:])
sys.exit(failed)
