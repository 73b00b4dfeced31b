/**
 * Talos machines as state machines on the real wire, many in one process, without root. Written from the wire alone
 * (protocols.md) and sharing nothing with the plane, so that it joins any plane. docs/emulator-differences.md says what it does not imitate.
 */
export {};
