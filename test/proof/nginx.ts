import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { kill } from 'node:process'
import { setTimeout as sleep } from 'node:timers/promises'
import { stopWithParent, freePort, canRun, startProgram } from '../../src/embedded/process.ts'
import { quiet } from '../helpers/quiet.ts'

/**
 * A real nginx in front of replicas. `route` sends new requests to those and no others, and resolves when it
 * does.
 */
export interface Proxy {
  url: string
  route: (urls: string[]) => Promise<void>
  stop: () => Promise<void>
}

// As the Ingress does it: connections to the replicas are kept, nothing is buffered, no stream is cut after
// 60 s, and only what may be sent twice is sent to the next replica when one has failed. Clients get a
// connection for each request: nginx, unlike the Ingress, changes its replicas by new processes, which would
// close idle connections under their hands.
const asIngress = {
  upstream: (hosts: string[]) =>
    `${hosts.map((host) => `server ${host} max_fails=0;`).join(' ')} keepalive 32;`,
  location: `proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_set_header Host $host; proxy_set_header X-Forwarded-For $remote_addr; proxy_set_header X-Request-Id $request_id;
      proxy_buffering off; proxy_request_buffering off; proxy_read_timeout 3600s;
      proxy_next_upstream error timeout; proxy_next_upstream_tries 3;`
}

/** How nginx passes requests on. */
interface Manner {
  upstream: (hosts: string[]) => string
  location: string
  /** What is said outside of the server. */
  http?: string
}

/**
 * As nginx does it by itself: HTTP/1.0, a connection for each request, and a replica that fails is left out
 * for 10 s.
 */
export const byDefault = {
  upstream: (hosts: string[]) => hosts.map((host) => `server ${host};`).join(' '),
  location: ''
}

const configuration = (
  dir: string,
  port: number,
  urls: string[],
  generation: number,
  { upstream, location, http = '' }: Manner
) => `
daemon off; pid ${dir}/nginx.pid; error_log ${dir}/nginx.log; worker_processes 2; worker_rlimit_nofile 1024;
events { worker_connections 1000; }
http {
  access_log off; keepalive_timeout 0;
  client_body_temp_path ${dir}/body; proxy_temp_path ${dir}/proxy; fastcgi_temp_path ${dir}/fastcgi; uwsgi_temp_path ${dir}/uwsgi; scgi_temp_path ${dir}/scgi;
  ${http}
  upstream chat-backend { ${upstream(urls.map((url) => new URL(url).host))} }
  server {
    listen 127.0.0.1:${port};
    location = /generation { return 200 "${generation}"; }
    location / {
      proxy_pass http://chat-backend;
      ${location}
    }
  }
}`

/**
 * Starts the nginx of this machine on a free loopback port, with its files in `dir`.
 * @param manner how it passes requests on
 * @throws {Error} when there is none
 */
export async function startNginx(dir: string, urls: string[], manner: Manner = asIngress): Promise<Proxy> {
  const program = ['nginx', '/usr/sbin/nginx'].find((name) => canRun(name, '-v'))
  if (!program) throw new Error('there is no nginx on this machine: apt-get install nginx')
  const [port, file] = [await freePort(), join(dir, 'nginx.conf')]
  const url = `http://127.0.0.1:${port}`
  let generation = 1
  const ask = async () => Number(await (await fetch(`${url}/generation`)).text())
  writeFileSync(file, configuration(dir, port, urls, generation, manner))
  const stop = await startProgram(
    [...stopWithParent(), program, '-p', dir, '-e', join(dir, 'nginx.log'), '-c', file],
    { name: 'nginx', logFile: join(dir, 'nginx.out'), ready: ask },
    quiet
  )
  return {
    url,
    stop,
    route: async (urls) => {
      writeFileSync(file, configuration(dir, port, urls, ++generation, manner))
      kill(parseInt(readFileSync(join(dir, 'nginx.pid'), 'utf8')), 'SIGHUP')
      // Its old processes take new connections for a moment more.
      for (let inARow = 0; inARow < 20; inARow = (await ask()) === generation ? inARow + 1 : 0) await sleep(5)
    }
  }
}
