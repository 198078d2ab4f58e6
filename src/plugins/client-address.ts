import { isIP } from 'node:net'
import type { FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import ipaddr from 'ipaddr.js'
import type { Config } from '../config.ts'
import { splitList } from '../lib/text.ts'

declare module 'fastify' {
  interface FastifyRequest {
    /**
     * The client, wherever something is counted by address: an IPv4 address, or the /64 network of an IPv6
     * client, in canonical form. Unlike `request.ip`, it is still defined when the client is gone.
     */
    clientAddress: string
    /**
     * Whether the request probably came through a proxy that `TRUST_PROXY` does not cover. `clientAddress` is
     * then the proxy's, which all of its clients share.
     */
    isBehindUnknownProxy: boolean
    /** The remote address of the connection, as Node reports it. */
    peerAddress: string | undefined
  }
}

type Address = ipaddr.IPv4 | ipaddr.IPv6

// Besides IPv4-mapped addresses, the networks whose last 32 bits are the client's IPv4 address: RFC 4291
// (2.5.5.1, deprecated), RFC 2765 (SIIT), RFC 6052 (NAT64).
const EMBEDDING_NETWORKS = ['::/96', '::ffff:0:0:0/96', '64:ff9b::/96'].map((cidr) =>
  ipaddr.IPv6.parseCIDR(cidr)
)
const IPV4_BITS = 32
const IPV4_IN_IPV6_FROM = 96
const CLIENT_NETWORK_BITS = 64

/** The headers in which proxies name the client. */
const FORWARDING_HEADERS = ['X-Forwarded-For', 'Forwarded', 'X-Real-IP']

const lastIPv4 = (address: ipaddr.IPv6) => new ipaddr.IPv4(address.toByteArray().slice(-4))
const isUnspecifiedOrLoopback = (address: ipaddr.IPv6) =>
  ['unspecified', 'loopback'].includes(address.range())

/**
 * Parses an address that may have a zone, brackets and a port, as some proxies write it in `X-Forwarded-For`.
 * @returns undefined if it is not valid. Node checks it first, because the library accepts `0x7f.1` and
 * `203.0.113.077`
 */
function parseAddress(text: string | undefined): Address | undefined {
  const [, inBrackets, bare] = /^(?:\[([^[\]]+)\](?::\d{0,5})?|([^[\]]+))$/.exec(text?.trim() ?? '') ?? []
  const withoutPort = inBrackets ?? bare?.replace(/^([\d.]+):\d{0,5}$/, '$1') ?? ''
  if (isIP(withoutPort) === 0) return undefined
  const address = ipaddr.parse(withoutPort.replace(/%.*$/, ''))
  // IPv4 on a dual-stack socket.
  return address instanceof ipaddr.IPv6 && address.isIPv4MappedAddress() ? lastIPv4(address) : address
}

/** The canonical form of an address, by which clients are counted. */
function canonical(address: Address): string {
  if (address instanceof ipaddr.IPv4) return address.toString()
  const isEmbedded =
    EMBEDDING_NETWORKS.some((network) => address.match(network)) && !isUnspecifiedOrLoopback(address)
  if (isEmbedded) return lastIPv4(address).toString()
  const network = new ipaddr.IPv6([...address.parts.slice(0, CLIENT_NETWORK_BITS / 16), 0, 0, 0, 0])
  return `${network.toRFC5952String()}/${CLIENT_NETWORK_BITS}`
}

/** @param list a valid value of `TRUST_PROXY` */
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
 * Decorates requests with `clientAddress` and `isBehindUnknownProxy`. `X-Forwarded-For` is read from its end,
 * as long as the previous address is a proxy in `TRUST_PROXY`; an entry that is not an address ends the
 * search. Fastify's `request.ip` takes any text in that header for an address, and is undefined once the
 * client is gone.
 */
export default fp<{ config: Config }>(
  async (app, { config: { TRUST_PROXY: proxies, RATE_LIMIT } }) => {
    const isTrusted = proxies === undefined ? () => false : createIsTrusted(proxies)

    app.decorateRequest('peerAddress', undefined)
    let mayWarn = RATE_LIMIT === 'on'
    app.addHook('onRequest', (request, _reply, done) => {
      request.peerAddress = request.raw.socket.remoteAddress // undefined once the client is gone
      if (mayWarn) warnOfUnknownProxy(request)
      done()
    })

    /** Logs once, because anybody can send such a header, and never its value, because it can be anything. */
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
