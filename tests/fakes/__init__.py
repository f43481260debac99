"""Stand-ins for services that tests cannot reach; each speaks the real protocol on real sockets."""
