"""Lets Helm take over a live release, `helm upgrade --install --take-ownership`, from an API server that holds just that, and checks what
comes of it. Helm only adds to an object that it takes over and did not make: what the old one had besides stays. Merging is kubectl's.
"""

import json, os, subprocess, sys, tempfile, threading, yaml
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

helm, kubectl, chart, name, *flags = sys.argv[1:]
APPS, CORE, NET = (
    f'{group}/namespaces/chat' for group in ('/apis/apps/v1', '/api/v1', '/apis/networking.k8s.io/v1')
)
# Nothing that this release has is in the way, not even what the chart does not know, such as the command of
# its init containers.
wait = {
    'image': 'busybox',
    'command': ['sh', '-c', 'until nc -z "$HOST" "$PORT"; do sleep 1; done'],
    'args': ['old'],
}
probe = {'httpGet': {'path': '/health/livez', 'port': 8080}, 'initialDelaySeconds': 3}
live = yaml.safe_load(
    json.dumps(
        {
            f'{APPS}/deployments/chat-backend': {
                'apiVersion': 'apps/v1',
                'kind': 'Deployment',
                'spec': {
                    'replicas': 1,
                    'selector': {'matchLabels': {'app': 'chat-backend'}},
                    'template': {
                        'metadata': {'labels': {'app': 'chat-backend'}},
                        'spec': {
                            'initContainers': [
                                {'name': 'wait-for-postgres', **wait},
                                {'name': 'wait-for-redis', **wait},
                            ],
                            'containers': [
                                {
                                    'name': 'chat-backend',
                                    'image': 'chat-backend:old',
                                    'command': ['/chat-backend'],
                                    'args': ['serve'],
                                    'ports': [{'containerPort': 8080, 'protocol': 'TCP'}],
                                    'livenessProbe': probe,
                                    'readinessProbe': probe,
                                    'env': [{'name': 'HTTP_PORT', 'value': '8080'}],
                                    'envFrom': [{'secretRef': {'name': 'db-secret'}}],
                                }
                            ],
                        },
                    },
                },
            },
            f'{CORE}/services/chat-backend': {
                'apiVersion': 'v1',
                'kind': 'Service',
                'spec': {
                    'type': 'ClusterIP',
                    'clusterIP': '10.0.0.5',
                    'selector': {'app': 'chat-backend'},
                    'ports': [{'name': 'http', 'port': 8080, 'protocol': 'TCP', 'targetPort': 8080}],
                },
            },
            f'{NET}/ingresses/chat-backend-ingress': {
                'apiVersion': 'networking.k8s.io/v1',
                'kind': 'Ingress',
                'spec': {'ingressClassName': 'nginx', 'rules': [{'http': {'paths': []}}]},
            },
        }
    )
)
for path, item in live.items():
    item['metadata'] = {
        'name': path.split('/')[-1],
        'namespace': 'chat',
        'uid': path,
        'resourceVersion': '1',
        'labels': {'app': 'chat-backend'},
    }
old = json.loads(json.dumps(live))
RESOURCES = {
    '/api/v1': {'services': 'Service', 'secrets': 'Secret', 'pods': 'Pod'},
    '/apis/apps/v1': {'deployments': 'Deployment'},
    '/apis/networking.k8s.io/v1': {'ingresses': 'Ingress'},
    '/apis/policy/v1': {'poddisruptionbudgets': 'PodDisruptionBudget'},
    '/apis/autoscaling/v2': {'horizontalpodautoscalers': 'HorizontalPodAutoscaler'},
}
GROUPS = [
    {'name': group, 'versions': [{'groupVersion': f'{group}/{version}', 'version': version}]}
    for _, _, group, version in (path.split('/') for path in RESOURCES if path != '/api/v1')
]


def merge(item, patch):
    with tempfile.NamedTemporaryFile('w', suffix='.json') as file:
        json.dump(item, file)
        file.flush()
        return json.loads(
            subprocess.run(
                [
                    kubectl,
                    'patch',
                    '--local',
                    '--filename',
                    file.name,
                    '--type',
                    'strategic',
                    '--patch',
                    patch,
                    '--output',
                    'json',
                ],
                check=True,
                capture_output=True,
            ).stdout
        )


class Cluster(BaseHTTPRequestHandler):
    def answer(self):
        path, body = self.path.split('?')[0], self.rfile.read(int(self.headers.get('content-length') or 0))
        if path in live and self.command == 'PATCH':
            live[path] = merge(live[path], body)
        if path in live and self.command == 'PUT':
            live[path] = json.loads(body)
        if path in live:
            return self.send(live[path])
        if path == '/version':
            return self.send({'major': '1', 'minor': '37', 'gitVersion': 'v1.37.0'})
        if path == '/api':
            return self.send({'kind': 'APIVersions', 'versions': ['v1']})
        if path == '/apis':
            return self.send({'kind': 'APIGroupList', 'apiVersion': 'v1', 'groups': GROUPS})
        if path in RESOURCES:
            return self.send(
                {
                    'kind': 'APIResourceList',
                    'apiVersion': 'v1',
                    'groupVersion': path.replace('/apis/', '').replace('/api/', ''),
                    'resources': [
                        {
                            'name': plural,
                            'singularName': '',
                            'namespaced': True,
                            'kind': kind,
                            'verbs': ['get', 'list', 'create', 'update', 'patch'],
                        }
                        for plural, kind in RESOURCES[path].items()
                    ],
                }
            )
        if path == f'{CORE}/secrets' and self.command == 'GET':
            return self.send({'kind': 'SecretList', 'apiVersion': 'v1', 'metadata': {}, 'items': []})
        if path.startswith(f'{CORE}/secrets') and self.command != 'GET':
            return self.send({'apiVersion': 'v1', 'kind': 'Secret', 'metadata': {'name': 'release'}})
        self.send(
            {
                'kind': 'Status',
                'apiVersion': 'v1',
                'status': 'Failure',
                'reason': 'NotFound',
                'code': 404,
                'message': path,
            },
            404,
        )

    do_GET = do_POST = do_PUT = do_PATCH = answer

    def send(self, item, status=200):
        self.send_response(status)
        self.send_header('content-type', 'application/json')
        self.end_headers()
        self.wfile.write(json.dumps(item).encode())

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(('127.0.0.1', 0), Cluster)
threading.Thread(target=server.serve_forever, daemon=True).start()
with tempfile.TemporaryDirectory() as home:  # for no discovery of an earlier run
    run = subprocess.run(
        [
            helm,
            'upgrade',
            '--install',
            'chat',
            chart,
            '--namespace',
            'chat',
            '--take-ownership',
            '--disable-openapi-validation',
            *flags,
            '--values',
            f'{chart}/ci/seed-values.yaml',
            '--kube-apiserver',
            f'http://127.0.0.1:{server.server_port}',
        ],
        env=os.environ | {'HOME': home, 'KUBECONFIG': '/dev/null'},
        capture_output=True,
        text=True,
        timeout=60,
    )
wanted = {
    o['kind']: o
    for o in yaml.safe_load_all(
        subprocess.run(
            [
                helm,
                'template',
                'chat',
                chart,
                '--namespace',
                'chat',
                '--values',
                f'{chart}/ci/seed-values.yaml',
                '--no-hooks',
            ],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
    )
    if o
}


def lacks(found, expected, path=''):
    """What the chart says and the object does not; what it says besides is the old release's."""
    if isinstance(expected, dict):
        return [
            m
            for key, value in expected.items()
            for m in lacks(found.get(key) if isinstance(found, dict) else None, value, f'{path}.{key}')
        ]
    if (
        isinstance(expected, list)
        and expected
        and isinstance(expected[0], dict)
        and 'name' in expected[0]
        and isinstance(found, list)
    ):
        names = {item.get('name'): item for item in found}
        return [
            m for item in expected for m in lacks(names.get(item['name']), item, f"{path}.{item['name']}")
        ]
    return [] if found == expected else [f'{path}: {found!r} instead of {expected!r}']


problems = [run.stderr] if run.returncode else []
for item in live.values():
    problems += lacks(item['spec'], wanted[item['kind']]['spec'], item['kind'])
    problems += lacks(item['metadata'], {'annotations': {'meta.helm.sh/release-name': 'chat'}}, item['kind'])
pod = live[f'{APPS}/deployments/chat-backend']['spec']['template']['spec']
started = {
    c['name']: (c['image'], c.get('command'), (c.get('args') or [None])[0])
    for c in pod['initContainers'] + pod['containers']
}
image, node = 'registry.example/chat-backend:1.0.0-rc.1', ['/nodejs/bin/node']
expected = {
    'wait-for-postgres': (image, node, 'dist/src/wait.js'),
    'wait-for-redis': (image, node, 'dist/src/wait.js'),
    'chat-backend': (image, node, 'dist/src/server.js'),
}
problems += [f'starts {started}'] if started != expected else []
problems += (
    ['lost the address of the Service']
    if live[f'{CORE}/services/chat-backend']['spec']['clusterIP'] != '10.0.0.5'
    else []
)
failed = False


def report(what, problems):
    global failed
    failed = failed or bool(problems)
    print(''.join(f'{problem}\n' for problem in problems), end='')
    print(f"{'not ok' if problems else 'ok'} - {name} {what}")


report(f"takes over a live release{' with ' + ' '.join(flags) if flags else ''}", problems)


def ask(*command):
    """Runs kubectl or Helm against the cluster."""
    with tempfile.TemporaryDirectory() as home:
        return subprocess.run(
            command,
            env=os.environ | {'HOME': home, 'KUBECONFIG': '/dev/null'},
            capture_output=True,
            text=True,
            timeout=60,
        )


# The autoscaler must not start again from one pod when it takes over from replicaCount, and starts as the API
# likes on a new release.
deployment = f'{APPS}/deployments/chat-backend'
live[deployment]['spec']['replicas'] = 3
counts, names = [], {'chat': 'chat-backend', 'other': 'other'}
for release in ('chat', 'other'):
    rendered = ask(
        helm,
        'template',
        release,
        chart,
        '--namespace',
        'chat',
        '--values',
        f'{chart}/ci/minimal-values.yaml',
        '--set',
        f'autoscaling.enabled=true,fullnameOverride={names[release]}',
        '--show-only',
        'templates/deployment.yaml',
        '--dry-run=server',
        '--disable-openapi-validation',
        '--kube-apiserver',
        f'http://127.0.0.1:{server.server_port}',
    )
    counts.append(
        yaml.safe_load(rendered.stdout)['spec'].get('replicas')
        if rendered.returncode == 0
        else rendered.stderr
    )
report(
    'keeps the number of pods when the autoscaler is switched on',
    [] if counts == [3, None] else [f'replicas: {counts}'],
)

# The way back, as docs/kubernetes.md has it. The old manifest names no command: its image does.
manifest = old[deployment]
for key in ('uid', 'resourceVersion'):
    del manifest['metadata'][key]
containers = manifest['spec']['template']['spec']
for container in containers['initContainers'] + containers['containers']:
    container.pop('command')
with tempfile.NamedTemporaryFile('w', suffix='.json') as file:
    json.dump(manifest, file)
    file.flush()
    run = ask(
        kubectl,
        '--server',
        f'http://127.0.0.1:{server.server_port}',
        'replace',
        '--validate=false',
        '--filename',
        file.name,
    )
report(
    'lets the old release come back by kubectl replace, with nothing of the chart left',
    (
        [run.stderr]
        if run.returncode
        else [] if live[deployment]['spec'] == manifest['spec'] else [json.dumps(live[deployment]['spec'])]
    ),
)
sys.exit(failed)
