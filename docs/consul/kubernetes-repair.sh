# consul-server-0 has the data. It is told that it is the only server, and started anew in the same pod, and so at the same address.
kubectl exec -n consul consul-server-0 -- sh -c '
  printf "[{\"id\": \"%s\", \"address\": \"%s:8300\", \"non_voter\": false}]" "$(cat /consul/data/node-id)" "$POD_IP" >/consul/data/raft/peers.json
  kill 1'
