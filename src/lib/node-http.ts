/**
 * `node:http`, for what the service needs of it at run time; its types are imported as usual. An `import` of
 * the values would read all exports of the module, one of which loads Node's `fetch` and `WebSocket`: 20 ms
 * and 3 MiB at each start (Node 26).
 */
export const http = process.getBuiltinModule('node:http')
