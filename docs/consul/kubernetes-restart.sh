# Servers that have not run for minReadySeconds would all be restarted at once.
kubectl wait statefulset/consul-server -n consul --for=jsonpath='{.status.availableReplicas}'=3 --timeout=5m
kubectl rollout restart statefulset/consul-server -n consul
