retry_join = ["provider=k8s namespace=consul label_selector=\"app=consul,component=server\""]
