import { type DestinationStream, type Logger, pino } from 'pino'
import { LogBuffer } from './log-buffer.ts'

/** Formats a request as one line: `POST /api/messages 201 in 3.2 ms`. Other lines keep their message. */
function formatMessage(line: Record<string, unknown>, messageKey: string): string {
  const { method, route, status, durationMs } = line
  return durationMs === undefined
    ? String(line[messageKey])
    : `${String(method)} ${String(route)} ${String(status)} in ${String(durationMs)} ms`
}

/** Formatted lines for a terminal, if pino-pretty is installed. */
async function openTerminal(): Promise<DestinationStream | undefined> {
  if (!process.stdout.isTTY) return undefined
  const pretty = await import('pino-pretty').catch(() => undefined)
  return pretty?.default({
    sync: true,
    singleLine: true,
    ignore: 'pid,hostname,method,route,status,durationMs',
    messageFormat: formatMessage
  })
}

/** How many characters are kept while they cannot be written, because the disk is full. The rest is lost. */
const MAX_UNWRITTEN = 1024 * 1024

function openStandardOutput(): DestinationStream {
  const destination = pino.destination({ sync: true, maxLength: MAX_UNWRITTEN })
  destination.on('error', () => {}) // The chat goes on without its log.
  const buffer = new LogBuffer(destination)
  process.on('exit', () => buffer.flushSync())
  return buffer
}

/** Like `pino.stdTimeFunctions.isoTime`, but formats each millisecond only once. */
function createTimestamp(): () => string {
  let last = NaN
  let text = ''
  return () => {
    const now = Date.now()
    if (now !== last) {
      last = now
      text = `,"time":"${new Date(now).toISOString()}"`
    }
    return text
  }
}

/** Opens the log: JSON lines on standard output, or formatted lines on a terminal. */
export async function openLog(): Promise<Logger> {
  return pino({ timestamp: createTimestamp() }, (await openTerminal()) ?? openStandardOutput())
}
