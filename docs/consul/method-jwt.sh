ISSUER=$(kubectl get --raw /.well-known/openid-configuration | sed 's/.*"issuer":"\([^"]*\)".*/\1/')
if [ -n "${PUBLIC_ISSUER:-}" ]; then
  # Consul's servers fetch the keys from the cloud, at the issuer's address: EKS, GKE, and AKS with its OIDC issuer.
  KEYS="\"OIDCDiscoveryURL\": \"$ISSUER\""
else
  # They fetch them from the API server, which shows them to everybody from now on.
  kubectl create clusterrolebinding service-account-issuer-discovery-for-all \
    --clusterrole=system:service-account-issuer-discovery --group=system:unauthenticated
  API=$(kubectl config view --minify --raw -o jsonpath='{.clusters[0].cluster.server}')
  CA=$(kubectl get configmap kube-root-ca.crt -n default -o jsonpath='{.data}' | sed 's/^{"ca.crt"://; s/}$//')
  KEYS="\"JWKSURL\": \"$API/openid/v1/jwks\", \"JWKSCACert\": $CA"
fi

cat >method.json <<END
{
  $KEYS,
  "BoundIssuer": "$ISSUER",
  "BoundAudiences": ["consul"],
  "ClaimMappings": {
    "/kubernetes.io/namespace": "namespace",
    "/kubernetes.io/serviceaccount/name": "account"
  }
}
END
consul acl auth-method create -name agentlet -type jwt -max-token-ttl 1h -config @method.json
