#pragma once
// The functions of the stand-in for metal_stdlib. A file that overloads one keeps the library's own overloads too, as it does
// where both are found in one scope; here the file's names are in a namespace of their own.

#include <array>
#include <string_view>

namespace translate {

inline constexpr std::array<std::string_view, 117> kLibraryNames = {
    "abs", "acos", "all", "any", "asin", "atan", "atan2", "atomic_compare_exchange_weak_explicit", "atomic_exchange_explicit",
    "atomic_fetch_add_explicit", "atomic_fetch_and_explicit", "atomic_fetch_max_explicit", "atomic_fetch_min_explicit",
    "atomic_fetch_or_explicit", "atomic_fetch_sub_explicit", "atomic_fetch_xor_explicit", "atomic_load_explicit",
    "atomic_store_explicit", "ceil", "clamp", "clz", "copysign", "cos", "cosh", "cross", "ctz", "distance", "divide", "dot",
    "exp", "exp10", "exp2", "extract_bits", "fabs", "floor", "fma", "fmax", "fmin", "fmod", "fract", "isfinite", "isinf",
    "isnan", "ldexp", "length", "length_squared", "log", "log10", "log2", "mad", "make_filled_simdgroup_matrix", "max",
    "max3", "min", "min3", "mix", "mulhi", "normalize", "popcount", "pow", "powr", "quad_broadcast", "quad_max", "quad_min",
    "quad_shuffle_xor", "quad_sum", "reverse_bits", "rint", "rotate", "round", "rsqrt", "saturate", "select", "sign",
    "signbit", "simd_active_threads_mask", "simd_all", "simd_and", "simd_any", "simd_ballot", "simd_broadcast",
    "simd_broadcast_first", "simd_is_first", "simd_is_helper_thread", "simd_max", "simd_min", "simd_or",
    "simd_prefix_exclusive_product", "simd_prefix_exclusive_sum", "simd_prefix_inclusive_product",
    "simd_prefix_inclusive_sum", "simd_product", "simd_shuffle", "simd_shuffle_and_fill_down", "simd_shuffle_and_fill_up",
    "simd_shuffle_down", "simd_shuffle_rotate_down", "simd_shuffle_rotate_up", "simd_shuffle_up", "simd_shuffle_xor",
    "simd_sum", "simd_xor", "simdgroup_barrier", "simdgroup_load", "simdgroup_multiply", "simdgroup_multiply_accumulate",
    "simdgroup_store", "sin", "sinh", "smoothstep", "sqrt", "step", "tan", "tanh", "threadgroup_barrier", "transpose",
    "trunc",
};

}  // namespace translate
