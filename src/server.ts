// Listens for signals before the rest is loaded, which takes most of the start: as process 1 of a container,
// Node ignores a signal that nobody listens for, and a container that has just started could not be stopped.
import './process/signals.ts'

await import('./process/run.ts')
