# Varnish 7 in front of the service, as /etc/varnish/default.vcl, for rooms with thousands of pollers
# (CACHE_PAGES=on). Varnish does not end TLS: put HAProxy or hitch in front of it, with the PROXY protocol. On
# the same machine the service needs TRUST_PROXY=127.0.0.1.
vcl 4.1;

backend default {
  .host = "127.0.0.1";
  .port = "8080";
  .connect_timeout = 2s;
  # A long poll is answered after 25 s at the latest, and a silent event stream has a comment every 15 s.
  .first_byte_timeout = 60s;
  .between_bytes_timeout = 60s;
}

sub vcl_recv {
  # For the inside: what Prometheus and probes ask. No path of the service contains an escape.
  if (req.url ~ "^/+(metrics|health)([/?]|$)" || req.url ~ "^[^?]*%") {
    return (synth(404));
  }
  # Replaces what the client sent, so nobody can spoof an address.
  set req.http.X-Forwarded-For = client.ip;
  # Event streams: as they come.
  if (req.url ~ "^/+api/+events/*([?]|$)") {
    return (pipe);
  }
  # Long polls of the same page would wait for one another.
  if (req.url ~ "[?&]wait=") {
    return (pass);
  }
}

sub vcl_pipe {
  # The next request of this connection shall be looked at again.
  set bereq.http.Connection = "close";
}

sub vcl_backend_response {
  # A page of a second ago is good enough for pollers, one of ten seconds ago (the default) is not.
  set beresp.grace = 1s;
  set beresp.keep = 0s;
}
