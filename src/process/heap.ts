import { setFlagsFromString } from 'node:v8'

/**
 * Limits the heap with V8 flags that NODE_OPTIONS does not allow:
 * - The heap is collected whenever it has doubled. With much memory, V8 would let it grow fourfold.
 * - The young generation does not grow until `letYoungGenerationGrow` is called. V8 doubles it while many of
 *   its objects stay in use, as during the start, and hardly ever shrinks it: an idle service would keep 17
 *   MiB and need 2.
 */
export function limitHeap(): void {
  setFlagsFromString('--heap-growing-percent=100')
  setFlagsFromString('--semi-space-growth-factor=1')
}

/** Lets V8 double the young generation under load, as it does by default. */
export function letYoungGenerationGrow(): void {
  setFlagsFromString('--semi-space-growth-factor=2')
}
