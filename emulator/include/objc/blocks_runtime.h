#pragma once

// GNUstep's headers ask for this file when clang's blocks are on; Debian keeps the blocks runtime in Block.h.
#include <Block.h>
