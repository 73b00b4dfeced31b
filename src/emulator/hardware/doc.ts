/** Believable hardware, different by seed: boards, processors, memory, disks, network cards. */
export {};
