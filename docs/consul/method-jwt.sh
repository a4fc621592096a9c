# Consul's servers fetch the API server's public keys, without a token of their own.
kubectl create clusterrolebinding service-account-issuer-discovery-for-all \
  --clusterrole=system:service-account-issuer-discovery --group=system:unauthenticated
API=$(kubectl config view --minify --raw -o jsonpath='{.clusters[0].cluster.server}')
CA=$(kubectl get configmap kube-root-ca.crt -n default -o jsonpath='{.data}' | sed 's/^{"ca.crt"://; s/}$//')
ISSUER=$(kubectl get --raw /.well-known/openid-configuration | sed 's/.*"issuer":"\([^"]*\)".*/\1/')

cat >method.json <<END
{
  "JWKSURL": "$API/openid/v1/jwks",
  "JWKSCACert": $CA,
  "BoundIssuer": "$ISSUER",
  "BoundAudiences": ["consul"],
  "ClaimMappings": {
    "/kubernetes.io/namespace": "namespace",
    "/kubernetes.io/serviceaccount/name": "account"
  }
}
END
consul acl auth-method create -name agentlet -type jwt -max-token-ttl 1h -config @method.json
