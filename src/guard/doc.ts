/** What every caller passes: who they are (sessions), what they may (access), and what may be written (the guarded store). */
export {};
