// Handle signals before the rest is loaded, which takes most of the start. As PID 1 of a container, Node
// ignores signals without a listener, so a container that has just started could not be stopped.
import './process/signals.ts'
import { setFlagsFromString } from 'node:v8'

// Collect the heap whenever it has doubled. Where there is much memory, V8 lets it grow fourfold.
// NODE_OPTIONS does not allow this flag.
setFlagsFromString('--heap-growing-percent=100')

await import('./process/run.ts')
