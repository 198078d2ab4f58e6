import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { endedWithUs, freePort, runs, startProgram } from '../src/embedded/process.ts'
import { startService } from './helpers/app.ts'
import { openStream } from './helpers/stream.ts'

const quiet = { info: () => {}, warn: () => {}, error: () => {} }
const sample = readFileSync(new URL('../deploy/nginx.conf', import.meta.url), 'utf8')

/** The sample as it is, but for where it listens, its certificate, and where the service is. */
function locally(port: number, upstream: string): string {
  const [, tls = ''] = sample.split('\nserver {\n  listen 443')
  return `${sample.slice(0, sample.indexOf('\nserver {'))}\nserver {\n  listen 443${tls}`
    .replace('127.0.0.1:8080', upstream)
    .replace('listen 443 ssl', `listen 127.0.0.1:${port}`)
    .replace(/^ *(listen \[::\]|ssl_certificate).*\n/gm, '')
}

t.test(
  'the nginx sample hands on events as they come, and keeps /metrics inside',
  { skip: !['nginx', '/usr/sbin/nginx'].some((name) => runs(name, '-v')) && 'there is no nginx' },
  async (t) => {
    const service = await startService(t, { TRUST_PROXY: '127.0.0.1' })
    const port = await freePort()
    const dir = mkdtempSync(join(tmpdir(), 'chat-nginx-'))
    t.teardown(() => rmSync(dir, { recursive: true, force: true }))
    const paths = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']
      .map((name) => `${name}_temp_path ${dir}/${name};`)
      .join(' ')
    writeFileSync(
      join(dir, 'nginx.conf'),
      `daemon off; pid ${dir}/nginx.pid; error_log ${dir}/nginx.log; events {} http { access_log off; ${paths}
      ${locally(port, new URL(service.url).host)} }`
    )
    const url = `http://127.0.0.1:${port}`
    const program = runs('nginx', '-v') ? 'nginx' : '/usr/sbin/nginx'
    const stop = await startProgram(
      [...endedWithUs(), program, '-p', dir, '-e', join(dir, 'nginx.log'), '-c', join(dir, 'nginx.conf')],
      {
        name: 'nginx',
        logFile: join(dir, 'nginx.out'),
        ready: async () => {
          await fetch(url)
        }
      },
      quiet
    )
    t.teardown(stop)

    const stream = await openStream(t, url)
    const { token } = await service.register()
    const { id } = await service.post(token, 'through nginx')
    t.match(await stream.events(1), [
      { data: { type: 'message_created', message: { id, text: 'through nginx' } } }
    ])
    stream.close()

    for (const path of ['/metrics', '//metrics', '/health/readyz', '/health']) {
      t.equal((await fetch(url + path)).status, 404, path)
    }
    t.equal((await fetch(`${url}/api/messages`)).status, 200)
    t.equal((await fetch(url)).status, 200, 'the page')
  }
)
