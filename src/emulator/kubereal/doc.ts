/** The real kube-apiserver and etcd in the place of the built-in Kubernetes API: their processes, and kubelets that talk to them. */
export {};
