/** All we know of Talos: configuration documents and patches, version contracts, secrets bundle, PKI, machine API and COSI clients. */
export {};
