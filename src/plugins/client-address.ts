import { isIP } from 'node:net'
import type { FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import ipaddr from 'ipaddr.js'
import type { Config } from '../config.ts'
import { splitList } from '../lib/text.ts'

declare module 'fastify' {
  interface FastifyRequest {
    /**
     * Whom this request counts for, wherever something is counted by address: an IPv4 address, or the /64
     * network of an IPv6 client, always spelled the same. It is still known when the client has gone.
     */
    clientAddress: string
    /**
     * Whether the request probably came through a proxy although `TRUST_PROXY` is not set. `clientAddress` is
     * then the proxy's, which stands for many people.
     */
    isBehindUnknownProxy: boolean
    /** Where the connection comes from, as Node spells it. */
    peerAddress: string | undefined
  }
}

type Address = ipaddr.IPv4 | ipaddr.IPv6

// The networks, besides that of IPv4-mapped addresses, whose last 32 bits are the IPv4 address of the client:
// RFC 4291 (2.5.5.1, deprecated), RFC 2765 (SIIT), RFC 6052 (NAT64).
const EMBEDDING_NETWORKS = ['::/96', '::ffff:0:0:0/96', '64:ff9b::/96'].map((cidr) =>
  ipaddr.IPv6.parseCIDR(cidr)
)
const IPV4_BITS = 32
const IPV4_IN_IPV6_FROM = 96
const CLIENT_NETWORK_BITS = 64

/** By which proxies tell whom they stand for. */
const FORWARDING_HEADERS = ['X-Forwarded-For', 'Forwarded', 'X-Real-IP']

const lastIPv4 = (address: ipaddr.IPv6) => new ipaddr.IPv4(address.toByteArray().slice(-4))
const isUnspecifiedOrLoopback = (address: ipaddr.IPv6) =>
  ['unspecified', 'loopback'].includes(address.range())

/**
 * Reads an address that may have a zone, brackets and a port around it, as some proxies write it in
 * `X-Forwarded-For`.
 * @returns undefined when it is none. The library alone would take `0x7f.1` or `203.0.113.077` for one, so
 * Node judges first
 */
function parseAddress(text: string | undefined): Address | undefined {
  const [, inBrackets, bare] = /^(?:\[([^[\]]+)\](?::\d{0,5})?|([^[\]]+))$/.exec(text?.trim() ?? '') ?? []
  const withoutPort = inBrackets ?? bare?.replace(/^([\d.]+):\d{0,5}$/, '$1') ?? ''
  if (isIP(withoutPort) === 0) return undefined
  const address = ipaddr.parse(withoutPort.replace(/%.*$/, ''))
  // IPv4 on a socket that listens for both.
  return address instanceof ipaddr.IPv6 && address.isIPv4MappedAddress() ? lastIPv4(address) : address
}

/** The one spelling of the client that has this address. */
function canonical(address: Address): string {
  if (address instanceof ipaddr.IPv4) return address.toString()
  const isEmbedded =
    EMBEDDING_NETWORKS.some((network) => address.match(network)) && !isUnspecifiedOrLoopback(address)
  if (isEmbedded) return lastIPv4(address).toString()
  const network = new ipaddr.IPv6([...address.parts.slice(0, CLIENT_NETWORK_BITS / 16), 0, 0, 0, 0])
  return `${network.toRFC5952String()}/${CLIENT_NETWORK_BITS}`
}

/** @param list as in `TRUST_PROXY`, and valid */
function createIsTrusted(list: string): (address: Address) => boolean {
  const networks = splitList(list).map((entry): [Address, number] => {
    const [text = '', bits] = entry.split('/')
    const written = ipaddr.parse(text)
    const address = parseAddress(text) ?? written
    const wholeAddress = address instanceof ipaddr.IPv4 ? IPV4_BITS : 128
    const isMapped = address.kind() !== written.kind()
    return [address, bits === undefined ? wholeAddress : Number(bits) - (isMapped ? IPV4_IN_IPV6_FROM : 0)]
  })
  return (address) =>
    networks.some(([network, bits]) => address.kind() === network.kind() && address.match(network, bits))
}

/**
 * Decorates requests with `clientAddress`, the only place that tells whom a request counts for, and with
 * `isBehindUnknownProxy`. `X-Forwarded-For` is read from its end for as long as the address before came from
 * a proxy in `TRUST_PROXY`; where it holds no address, what is known so far counts. Fastify's own
 * `request.ip` would take any text in that header for an address, and is undefined when the client has gone.
 */
export default fp<{ config: Config }>(
  async (app, { config: { TRUST_PROXY: proxies, RATE_LIMIT } }) => {
    const isTrusted = proxies === undefined ? () => false : createIsTrusted(proxies)

    app.decorateRequest('peerAddress', undefined)
    let mayWarn = RATE_LIMIT === 'on'
    app.addHook('onRequest', (request, _reply, done) => {
      request.peerAddress = request.raw.socket.remoteAddress // undefined later, when the client has gone
      if (mayWarn) warnOfUnknownProxy(request)
      done()
    })

    /** Once, because anybody can send such a header; and never what is in it, because anything can be. */
    function warnOfUnknownProxy({ peerAddress, headers }: FastifyRequest): void {
      const header = FORWARDING_HEADERS.find((name) => headers[name.toLowerCase()] !== undefined)
      const peer = header === undefined ? undefined : parseAddress(peerAddress)
      if (peer === undefined || isTrusted(peer)) return
      mayWarn = false
      app.log.warn(
        `${peer.toString()} sends ${header}, and TRUST_PROXY does not cover it, ` +
          'so everybody behind it shares the rate limits of one address: ' +
          'if it is your proxy, add it to TRUST_PROXY and let it send X-Forwarded-For'
      )
    }

    app.decorateRequest('clientAddress', {
      getter() {
        let address = parseAddress(this.peerAddress)
        if (address === undefined) return 'unknown'
        const header = this.headers['x-forwarded-for']
        if (header === undefined || !isTrusted(address)) return canonical(address)
        // Node joins the lines of a repeated header, but its types leave that open.
        for (const entry of splitList(String(header)).filter(Boolean).reverse()) {
          const before = parseAddress(entry)
          if (before === undefined) break
          address = before
          if (!isTrusted(address)) break
        }
        return canonical(address)
      }
    })
    app.decorateRequest('isBehindUnknownProxy', {
      getter() {
        const { 'x-forwarded-for': forwardedFor, forwarded, 'x-real-ip': realIp } = this.headers
        return proxies === undefined && (forwardedFor ?? forwarded ?? realIp) !== undefined
      }
    })
  },
  { name: 'client-address' }
)
