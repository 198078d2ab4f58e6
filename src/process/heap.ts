import { setFlagsFromString } from 'node:v8'

/**
 * Limits the heap by flags of V8 that NODE_OPTIONS does not allow:
 * - It is collected whenever it has doubled. Where there is much memory, V8 lets it grow fourfold.
 * - Its young generation does not grow until `letYoungGenerationGrow`. V8 doubles it while many of its
 *   objects stay in use, as during the start, and hardly ever makes it smaller: 17 MiB, of which an idle
 *   service needs two.
 */
export function limitHeap(): void {
  setFlagsFromString('--heap-growing-percent=100')
  setFlagsFromString('--semi-space-growth-factor=1')
}

/** Lets V8 double the young generation under load, its default. */
export function letYoungGenerationGrow(): void {
  setFlagsFromString('--semi-space-growth-factor=2')
}
