# Who has the management token may do everything: keep it in a safe place. The other one is that of all agents.
MANAGEMENT=$(cat /proc/sys/kernel/random/uuid)
AGENT=$(cat /proc/sys/kernel/random/uuid)
kubectl create secret generic consul-server-tokens -n consul \
  --from-literal=tokens.json='{"acl": {"tokens": {"initial_management": "'"$MANAGEMENT"'", "agent": "'"$AGENT"'"}}}'
kubectl create secret generic consul-client-tokens -n consul \
  --from-literal=tokens.json='{"acl": {"tokens": {"agent": "'"$AGENT"'"}}}'
kubectl apply -k examples/consul/acl
kubectl rollout status daemonset/consul-client -n consul --timeout=5m     # its agents have joined
kubectl exec -i -n consul consul-server-0 -- sh -e <<END
export CONSUL_HTTP_TOKEN=$MANAGEMENT
consul acl policy create -name agents -rules '
  node_prefix "" { policy = "write" }
  service_prefix "" { policy = "read" }'
consul acl token create -description agents -secret $AGENT -policy-name agents
END
