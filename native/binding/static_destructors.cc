// Static objects of the addon are never destroyed.
//
// exit() destroys them while threads of ours may still run: lib/addon.ts stops those first, but exit() has other callers
// (another addon, an embedder). What such a thread uses (ggml's tables, llama.cpp's maps) then has to stay. Calls of
// __cxa_atexit inside this library resolve to this definition, which is not exported.

#if defined(__GNUC__) && !defined(_WIN32)

extern "C" __attribute__((visibility("hidden"))) int __cxa_atexit(void (*)(void *), void *, void *) { return 0; }

#endif
