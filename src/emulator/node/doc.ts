/** A configured machine at work in its cluster: boot sequence, etcd, control plane, kubelet. */
export {};
