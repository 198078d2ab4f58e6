// Handle signals before the rest is loaded, which takes most of the start. As PID 1 of a container, Node
// ignores signals without a listener, so a container that has just started could not be stopped.
import './process/signals.ts'
import { limitHeap } from './process/heap.ts'

limitHeap()
await import('./process/run.ts')
