/** A plane just large enough to test machines against: provision, link, sinks, trustd, load balancer. Written from protocols.md, apart from `link/`. */
export {};
