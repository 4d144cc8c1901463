/* The version of the interface between the Python code and the kernels: a
 * library of another version is not called. Counted up in both places. */
#if defined(_WIN32)
__declspec(dllexport)
#endif
int ks_interface_version(void);

int ks_interface_version(void) { return 4; }
