/** A small Kubernetes API: serves any resource generically, enough for kubectl; one per emulated cluster, answered by each control plane. */
export {};
