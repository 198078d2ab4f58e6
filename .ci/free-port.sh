# To be sourced, by .ci/run, .ci/image and .ci/engines. Needs node.

# free_port: prints a free port of the loopback interface, below the range from which the kernel takes ports
# for outgoing connections, so that it is still free when a server is started on it.
free_port () {
  node -e "const server = require('net').createServer()
    server.listen(20000 + Math.floor(Math.random() * 12000), '127.0.0.1', () => {
      console.log(server.address().port)
      server.close()
    })" || free_port
}
