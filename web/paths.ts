/** Every address of the console; links come only from here. */
export const paths = {
  machines: "/machines",
  machine: (id: string) => `/machines/${encodeURIComponent(id)}`,
  clusters: "/clusters",
  cluster: (name: string) => `/clusters/${encodeURIComponent(name)}`,
  join: "/join",
  plane: "/plane",
  signin: "/signin",
} as const;
