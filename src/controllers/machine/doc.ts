/** Controllers of single machines: from first contact to a full inventory. */
export {};
