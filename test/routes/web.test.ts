import { readdirSync, readFileSync } from 'node:fs'
import { brotliDecompressSync, gunzipSync } from 'node:zlib'
import t from 'tap'
import { startService } from '../helpers/app.ts'
import { openRaw } from '../helpers/raw.ts'

const folder = new URL('../../web/', import.meta.url)
const files = readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter((name) => name.includes('.'))
const html = readFileSync(new URL('index.html', folder), 'utf8')

t.test(
  'the page and all its files are served, under a policy that allows nothing else, and once',
  async (t) => {
    const { app, call, url } = await startService(t)
    for (const file of files) {
      const path = file === 'index.html' ? '/' : `/web/${file}`
      const { status, headers, body } = await call('GET', path, { headers: { 'accept-encoding': 'br' } })
      t.equal(status, 200, path)
      t.equal(body, readFileSync(new URL(file, folder), 'utf8'))
      t.match(
        headers.get('content-type'),
        {
          html: /^text\/html; charset=utf-8/,
          js: /javascript; charset=utf-8/,
          css: /^text\/css; charset=utf-8/,
          svg: /^image\/svg\+xml/
        }[file.split('.')[1]!]
      )
      t.equal(headers.get('cache-control'), 'no-cache')
      const policy = headers.get('content-security-policy')
      t.match(policy, /^default-src 'none'; script-src 'self'; style-src 'self';/)
      t.match(policy, /require-trusted-types-for 'script'; trusted-types 'none'$/)
      t.notMatch(policy, /unsafe|\*|data:|http/)
      t.equal(headers.get('x-content-type-options'), 'nosniff')
      const again = await app.inject({
        url: path,
        headers: { 'accept-encoding': 'br', 'if-none-match': headers.get('etag')! }
      })
      t.match([again.statusCode, again.body], [304, ''], 'and not sent again while it is the same')
      t.match(await call('POST', path, { body: {} }), { status: 405, body: { code: 'method_not_allowed' } })
      t.match((await fetch(`${url}${path}`, { method: 'HEAD' })).status, 200)
    }
    for (const path of [
      '/web',
      '/web/i18n',
      '/web/',
      '/web/index.html',
      '/web/main.ts',
      '/web/..%2fpackage.json',
      '/web/%2e%2e/package.json',
      '/index.html'
    ]) {
      t.match(await call('GET', path), { status: 404, body: { code: 'not_found' } }, path)
    }
  }
)

t.test('the files are sent compressed to clients that accept it, and plain to others', async (t) => {
  const { app } = await startService(t)
  const css = readFileSync(new URL('style.css', folder))
  const get = async (accepted?: string, tag?: string) => {
    const headers = {
      ...(accepted && { 'accept-encoding': accepted }),
      ...(tag && { 'if-none-match': tag })
    }
    const { statusCode, headers: answered, rawPayload } = await app.inject({ url: '/web/style.css', headers })
    return { statusCode, coding: answered['content-encoding'], body: rawPayload, headers: answered }
  }
  const decoders = { br: brotliDecompressSync, gzip: gunzipSync }
  const tags = new Set()
  for (const [accepted, coding] of [
    ['gzip, deflate, br, zstd', 'br'],
    ['GZIP;q=0.5', 'gzip'],
    ['br;q=0, gzip', 'gzip']
  ] as const) {
    const { coding: chosen, body, headers } = await get(accepted)
    t.equal(chosen, coding, accepted)
    t.equal(headers['content-length'], `${body.length}`)
    t.ok(body.length < css.length / 2, `${body.length} of ${css.length} bytes`)
    t.ok(decoders[coding](body).equals(css))
    t.match(headers, { vary: 'accept-encoding', 'content-type': 'text/css; charset=utf-8' })
    const etag = `${headers.etag}`
    tags.add(etag)
    t.match(await get(accepted, `"other", W/${etag}`), { statusCode: 304, body: Buffer.alloc(0) })
    t.match(await get('identity', etag), { statusCode: 200 }, 'a tag is of one coding')
  }
  for (const accepted of [undefined, 'identity', 'br;q=0, gzip;q=0.000', 'brotli, gzip2']) {
    const { coding, body, headers } = await get(accepted)
    t.equal(coding, undefined, accepted ?? 'nothing is said')
    t.ok(body.equals(css))
    tags.add(headers.etag)
  }
  t.equal(tags.size, 3)
})

t.test('a 304 has neither type nor length, however the client says that it has the file', async (t) => {
  const { app, url } = await startService(t)
  for (const path of ['/', '/web/style.css', '/api/docs/swagger-ui-bundle.js']) {
    const { etag } = (await app.inject(path)).headers
    for (const method of ['GET', 'HEAD']) {
      for (const known of [etag, `W/${etag}`, `"other,one",W/"another" , ${etag}`, '*']) {
        const { socket, closed } = await openRaw(t, url)
        const head = [`${method} ${path} HTTP/1.1`, 'host: x', 'connection: close', `if-none-match: ${known}`]
        socket.write(`${head.join('\r\n')}\r\n\r\n`)
        const answer = await closed
        t.match(answer, /^HTTP\/1.1 304 Not Modified\r\n[^]*\r\n\r\n$/, `${method} ${path}, ${known}`)
        t.match(answer.toLowerCase(), `\r\netag: ${etag}`.toLowerCase())
        t.notMatch(answer, /^(content-(length|type|encoding)|transfer-encoding):/im)
      }
      const again = await fetch(`${url}${path}`, { method, headers: { 'if-none-match': '"*", "other"' } })
      t.equal(again.status, 200)
      t.ok(Number(again.headers.get('content-length')) > 0)
    }
  }
})

t.test('WEB_CLIENT=off: there is no page', async (t) => {
  const { call } = await startService(t, { WEB_CLIENT: 'off' })
  for (const path of ['/', '/web/main.js']) {
    t.match(await call('GET', path), { status: 404, body: { code: 'not_found' } }, path)
  }
  t.equal((await call('GET', '/api/messages')).status, 200)
})

t.test('the page asks for each of its modules at once, and for nothing that is not there', async (t) => {
  const asked = [...html.matchAll(/(?:href|src)="web\/([^"]+)"/g)].map(([, file]) => file)
  // What is in a folder is loaded when it is needed: a language, a panel.
  const first = files.filter((file) => file !== 'index.html' && !file.includes('/'))
  t.strictSame([...new Set(asked)].sort(), first.sort())
  t.notMatch(html, /<style|style="| on\w+="|<script(?! type="module" src=)/, 'nothing is inline')
})
