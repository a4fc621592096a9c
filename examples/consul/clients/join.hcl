datacenter = "dc1"
retry_join = ["consul.example"]
