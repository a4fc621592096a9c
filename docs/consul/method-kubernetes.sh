# Consul's servers have the API server judge the tokens, and look service accounts up.
kubectl create namespace consul --dry-run=client -o yaml | kubectl apply -f -
kubectl create serviceaccount consul-logins -n consul
kubectl create clusterrole consul-logins --verb=get --resource=serviceaccounts
kubectl create clusterrolebinding consul-logins --clusterrole=consul-logins --serviceaccount=consul:consul-logins
kubectl create clusterrolebinding consul-logins-review --clusterrole=system:auth-delegator --serviceaccount=consul:consul-logins
kubectl apply -f - <<END
{apiVersion: v1, kind: Secret, type: kubernetes.io/service-account-token,
 metadata: {name: consul-logins, namespace: consul, annotations: {kubernetes.io/service-account.name: consul-logins}}}
END
kubectl wait secret/consul-logins -n consul --for=jsonpath='{.data.token}'

consul acl auth-method create -name agentlet -type kubernetes -max-token-ttl 1h \
  -kubernetes-host "$(kubectl config view --minify --raw -o jsonpath='{.clusters[0].cluster.server}')" \
  -kubernetes-ca-cert "$(kubectl get configmap kube-root-ca.crt -n default -o jsonpath='{.data.ca\.crt}')" \
  -kubernetes-service-account-jwt "$(kubectl get secret consul-logins -n consul -o jsonpath='{.data.token}' | base64 -d)"
