/* The header alone, as C99 and as C++17, with the other one. */
#include "wsguard.h"
#ifdef __cplusplus
#include "wsguard.hpp"
#endif

int main(void) { return wsg_abi_check(WSG_ABI_VERSION) == WSG_OK ? 0 : 1; }
