# The service that the pods register.
service "web" {
  policy = "write"
}

# The agentlet finds its node's name, and sees whether Consul takes the node for alive.
node_prefix "" {
  policy = "read"
}
