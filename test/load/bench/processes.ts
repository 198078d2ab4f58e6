import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'

// What the operating system knows of a process (Linux): https://man7.org/linux/man-pages/man5/proc.5.html

const TICKS_PER_SECOND = 100 // USER_HZ, the same on all of Linux

/** The CPU seconds (user and system) of a process and of the children that it has waited for. */
function cpuOf(pid: number): number {
  // After the name, which may hold anything but a second closing bracket at the end.
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8')
    .replace(/^.*\) /s, '')
    .split(' ')
  return fields.slice(11, 15).reduce((sum, ticks) => sum + Number(ticks), 0) / TICKS_PER_SECOND
}

const childrenOf = (pid: number) =>
  readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').split(' ').filter(Boolean).map(Number)

/** The CPU seconds of a process and of its children, the living and the dead. */
export function cpuSeconds(pid: number): number {
  return [pid, ...childrenOf(pid)].reduce((sum, one) => {
    try {
      return sum + cpuOf(one)
    } catch {
      return sum
    } // It has ended between the two looks.
  }, 0)
}

export const residentKib = (pid: number) =>
  Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1])

const canPin = availableParallelism() > 1 && spawnSync('taskset', ['--version']).status === 0
const others = `1-${availableParallelism() - 1}`

/** How to start a program on the first core, where cores can be chosen. */
export const onFirstCore = canPin ? ['taskset', '-c', '0'] : []

/** How to start one on all of them, as a service runs elsewhere, although this process has left the first. */
export const onAllCores = canPin ? ['taskset', '-c', `0-${availableParallelism() - 1}`] : []

/**
 * Leaves the first core to others. Whatever this process starts from now on does the same. @returns what was
 * done, for the report
 */
export function leaveFirstCore(): string {
  if (!canPin) return 'cores not pinned'
  spawnSync('taskset', ['-a', '-p', '-c', others, `${process.pid}`])
  return `the measured process on core 0, engines and load on ${others.replace(/^1-1$/, '1')}`
}
