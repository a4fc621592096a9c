package cluster

// HostIP is the address of this machine at which pods and nodes reach it.
const HostIP = hostIP
