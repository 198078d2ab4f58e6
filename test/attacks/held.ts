import { readFileSync } from 'node:fs'

// What a process holds, as Linux knows it: https://man7.org/linux/man-pages/man5/proc.5.html

/** The most memory that was resident since the process started, in MiB. */
export const peakMib = (pid: number) =>
  Number(/VmHWM:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) / 1024

/** How many connections a service still holds that came from another address than 127.0.0.1. */
export function attackersConnections(port: number): number {
  const local = `0100007F:${port.toString(16).toUpperCase().padStart(4, '0')}`
  return readFileSync('/proc/net/tcp', 'utf8')
    .split('\n')
    .filter((line) => {
      const [, address, remote = '', , , , , , , inode] = line.trim().split(/\s+/)
      const isOthers = remote.startsWith('0100007F:') || remote.startsWith('00000000:')
      return address === local && !isOthers && inode !== '0' // Without an inode it is the kernel's alone.
    }).length
}
