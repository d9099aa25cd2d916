#pragma once

#include <cstdint>

/// Of files for the recorder, which may not include what declares the calls that it stands for.
namespace candela::faults {

/// 0: not there; links are not followed
std::uint64_t inode_of(const char* path);
std::uint64_t inode_of(int descriptor);
std::uint64_t position_of(int descriptor);

}  // namespace candela::faults
