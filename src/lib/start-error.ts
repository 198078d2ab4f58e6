/** Ends the start of the process. Its message is the one line that the operator reads. */
export class StartError extends Error {}
