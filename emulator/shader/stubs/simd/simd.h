// Empty: the translated file includes metal/metal_stdlib.h of the stand-in instead.
