#include "io/mapped_file.h"

#include <cstdint>
#if defined(__linux__)
#include <sys/mman.h>
#include <sys/sysinfo.h>
#endif

#include "io/files.h"

namespace candela::io {
namespace {

TEST(MappedFile, StartsAndEndsAtPagesOfAppleSilicon) {
  const test::TemporaryFolder folder;
  for (const std::size_t size :
       {std::size_t{1}, std::size_t{5000}, MappedFile::kAlignment, 3 * MappedFile::kAlignment + 17}) {
    test::write_text(folder / "a", std::string(size, 'x'));
    const MappedFile file(folder / "a");
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(file.data()) % MappedFile::kAlignment, 0U) << size;
    EXPECT_EQ(file.text(), std::string(size, 'x'));
    const std::size_t whole =
        (size + MappedFile::kAlignment - 1) / MappedFile::kAlignment * MappedFile::kAlignment;
    for (std::size_t i = size; i < whole; ++i) ASSERT_EQ(file.data()[i], std::byte{0}) << size << " at " << i;
  }
}

TEST(MappedFile, WritesStayPrivate) {
  const test::TemporaryFolder folder;
  test::write_text(folder / "a", "abc");
  {
    const MappedFile file(folder / "a");
    file.data()[0] = std::byte{'X'};
    EXPECT_EQ(file.text(), "Xbc");
  }
  EXPECT_EQ(test::read_text(folder / "a"), "abc");
}

#if defined(__linux__)
/// clang's thread sanitizer leaves the program little of the address space.
#if defined(__SANITIZE_THREAD__)
constexpr bool kThreadSanitizer = true;
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
constexpr bool kThreadSanitizer = true;
#else
constexpr bool kThreadSanitizer = false;
#endif
#else
constexpr bool kThreadSanitizer = false;
#endif

bool has_address_space(std::size_t bytes) {
  void* start = ::mmap(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (start == MAP_FAILED) return false;
  ::munmap(start, bytes);
  return true;
}

TEST(MappedFile, MapsMoreThanMemory) {
  if (kThreadSanitizer) GTEST_SKIP() << "the thread sanitizer bounds the address space";
  struct sysinfo machine {};
  ASSERT_EQ(::sysinfo(&machine), 0);
  const std::uintmax_t large = 2 * (std::uintmax_t{machine.totalram} + machine.totalswap) * machine.mem_unit;
  if (!has_address_space(large)) GTEST_SKIP() << "no address space for " << large << " bytes";
  const test::TemporaryFolder folder;
  test::write_text(folder / "a", "abc");
  std::error_code error;
  std::filesystem::resize_file(folder / "a", large, error);  // a hole
  if (error) GTEST_SKIP() << "no sparse files here: " << error.message();
  std::ifstream setting("/proc/sys/vm/overcommit_memory");
  if (int mode = 0; setting >> mode && mode == 2) GTEST_SKIP() << "this system commits all it maps";
  const MappedFile file(folder / "a");
  EXPECT_EQ(file.size(), large);
  EXPECT_EQ(file.text().substr(0, 3), "abc");
}
#endif

}  // namespace
}  // namespace candela::io
