/**
 * Ways through the plane to what runs on the machines: the Kubernetes proxy (kubectl), the Talos proxy (talosctl), and what machines ask
 * of the plane inside the link, trustd and the load balancer of each cluster's API.
 */
export {};
