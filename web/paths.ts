/** Every address of the console; links come only from here. */
export const paths = {
  machines: "/machines",
  machine: (id: string) => `/machines/${encodeURIComponent(id)}`,
  clusters: "/clusters",
  cluster: (name: string) => `/clusters/${encodeURIComponent(name)}`,
  join: "/join",
  plane: "/plane",
  signin: "/signin",
  /** Sign-in that comes back to `next`, an address of the console. */
  signinThen: (next: string) => `/signin?next=${encodeURIComponent(next)}`,
} as const;
