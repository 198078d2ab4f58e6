import { once } from 'node:events'
import { readFileSync, writeFileSync } from 'node:fs'
import { request } from 'node:http'
import { join } from 'node:path'
import t from 'tap'
import { stopWithParent, freePort, canRun, startProgram } from '../src/embedded/process.ts'
import { startService } from './helpers/app.ts'
import { waitUntil } from './helpers/raw.ts'
import { folder } from './helpers/server.ts'
import { openStream } from './helpers/stream.ts'
import { quiet } from './helpers/quiet.ts'

const sample = (name: string) => readFileSync(new URL(`../deploy/${name}`, import.meta.url), 'utf8')

/** A proxy of this machine, and how it runs by a sample of ours. */
interface Sample {
  file: string
  programs: string[]
  version: string
  /** Writes its files to `dir`. @returns its arguments */
  arrange: (dir: string, port: number, upstream: string) => string[]
}

// Each sample as it is, but for where it listens, its certificate, and where the service is.
const samples: Sample[] = [
  {
    file: 'nginx.conf',
    programs: ['nginx', '/usr/sbin/nginx'],
    version: '-v',
    arrange: (dir, port, upstream) => {
      const text = sample('nginx.conf')
      const [, tls = ''] = text.split('\nserver {\n  listen 443')
      const server = `${text.slice(0, text.indexOf('\nserver {'))}\nserver {\n  listen 443${tls}`
        .replace('127.0.0.1:8080', upstream)
        .replace('listen 443 ssl', `listen 127.0.0.1:${port}`)
        .replace(/^ *(listen \[::\]|ssl_certificate).*\n/gm, '')
      const paths = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']
        .map((name) => `${name}_temp_path ${dir}/${name};`)
        .join(' ')
      writeFileSync(
        join(dir, 'nginx.conf'),
        `daemon off; pid ${dir}/nginx.pid; error_log ${dir}/nginx.log; events {}
        http { access_log off; ${paths}
        ${server} }`
      )
      return ['-p', dir, '-e', join(dir, 'nginx.log'), '-c', join(dir, 'nginx.conf')]
    }
  },
  {
    file: 'Caddyfile',
    programs: ['caddy', '/usr/bin/caddy'],
    version: 'version',
    arrange: (dir, port, upstream) => {
      const text = sample('Caddyfile')
        .replace('{$DOMAIN:localhost}', `http://127.0.0.1:${port}`)
        .replace('{$UPSTREAM:chat:8080}', upstream)
      writeFileSync(join(dir, 'Caddyfile'), `{\n\tadmin off\n\tstorage file_system ${dir}\n}\n${text}`)
      return ['run', '--config', join(dir, 'Caddyfile'), '--adapter', 'caddyfile']
    }
  },
  {
    file: 'haproxy.cfg',
    programs: ['haproxy', '/usr/sbin/haproxy'],
    version: '-v',
    arrange: (dir, port, upstream) => {
      const text = sample('haproxy.cfg')
        .replace('127.0.0.1:8080', upstream)
        .replace('maxconn 20000', 'maxconn 100')
        .replace('bind :::80 v4v6', `bind 127.0.0.1:${port}`)
        .replace(/^ *(bind :::443|http-request redirect).*\n/gm, '')
      writeFileSync(join(dir, 'haproxy.cfg'), text)
      return ['-db', '-f', join(dir, 'haproxy.cfg')]
    }
  },
  {
    file: 'varnish.vcl',
    programs: ['varnishd', '/usr/sbin/varnishd'],
    version: '-V',
    arrange: (dir, port, upstream) => {
      const [, upstreamPort = ''] = upstream.split(':')
      writeFileSync(join(dir, 'varnish.vcl'), sample('varnish.vcl').replace('"8080"', `"${upstreamPort}"`))
      const storage = ['-s', 'malloc,16m', '-n', join(dir, 'state')]
      return ['-F', '-j', 'none', '-a', `127.0.0.1:${port}`, '-f', join(dir, 'varnish.vcl'), ...storage]
    }
  }
]

/** A registration by a client with this address, which says that it had another. */
async function registerFrom(url: string, localAddress: string, forwardedFor: string) {
  const headers = { 'content-type': 'application/json', 'x-forwarded-for': forwardedFor }
  const call = request(`${url}/api/register`, { method: 'POST', localAddress, headers, agent: false })
  const nickname = `n${Math.random()}`
  call.end(JSON.stringify({ nickname, password: 'correct horse' }))
  const [response] = await once(call, 'response')
  response.resume()
  return { status: response.statusCode, remaining: Number(/;r=(\d+)/.exec(response.headers.ratelimit)?.[1]) }
}

for (const { file, programs, version, arrange } of samples) {
  const program = programs.find((name) => canRun(name, version))
  t.test(
    `behind deploy/${file} events come at once, long polls do not wait for one another, and /metrics stays inside`,
    { skip: !program && `there is no ${programs[0]}` },
    async (t) => {
      const service = await startService(t, {
        TRUST_PROXY: '127.0.0.1',
        CACHE_PAGES: 'on',
        RATE_LIMIT: 'on'
      })
      const port = await freePort()
      const dir = folder(t)
      const url = `http://127.0.0.1:${port}`
      const stop = await startProgram(
        [
          ...stopWithParent(),
          'env',
          `XDG_CONFIG_HOME=${dir}`,
          program!,
          ...arrange(dir, port, new URL(service.url).host)
        ],
        {
          name: program!,
          logFile: join(dir, 'output'),
          ready: async () => {
            const { status } = await fetch(`${url}/api/messages`)
            if (status !== 200) throw new Error(`it answers ${status}`)
          }
        },
        quiet
      )
      t.teardown(stop)

      const stream = await openStream(t, url)
      const { token } = await service.register()
      const { id } = await service.post(token, 'through a proxy')
      t.match(await stream.events(1), [
        { data: { type: 'message_created', message: { id, text: 'through a proxy' } } }
      ])
      stream.close()

      const polls = [1, 2, 3].map(() => fetch(`${url}/api/messages?after_id=${id}&wait=25`))
      await waitUntil('all long polls wait in the service', async () =>
        (await service.call('GET', '/metrics')).body.includes('\nchat_long_polls 3\n')
      )
      const next = await service.post(token, 'for those who wait')
      for (const poll of polls) t.strictSame(await (await poll).json(), [next])

      for (const path of ['/metrics', '//metrics', '/%6detrics', '/metrics?x', '/health/readyz', '/health']) {
        t.equal((await fetch(url + path)).status, 404, path)
      }
      t.equal((await fetch(url)).status, 200, 'the page')
      for (let n = 0; n < 3; n++) {
        const page = await fetch(`${url}/api/messages`)
        t.equal(page.status, 200)
        t.notOk(page.headers.has('x-stale'), 'a page from a cache is not one of an outage')
      }

      const address = ['127', ...[1, 2, 3].map(() => 1 + Math.floor(Math.random() * 250))].join('.')
      const first = await registerFrom(url, address, '203.0.113.1')
      const second = await registerFrom(url, address, '203.0.113.2')
      t.match(
        [first, second],
        [{ status: 201 }, { status: 201, remaining: first.remaining - 1 }],
        'one address'
      )
    }
  )
}
