/** What machines send to the plane inside the link: events and log lines. */
export {};
