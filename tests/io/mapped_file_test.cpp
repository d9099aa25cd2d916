#include "io/mapped_file.h"

#include <cstdint>

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
TEST(MappedFile, MapsMoreThanMemory) {
  const test::TemporaryFolder folder;
  test::write_text(folder / "a", "abc");
  std::error_code error;
  constexpr std::uintmax_t kLarge = std::uintmax_t{1} << 42;  // a hole
  std::filesystem::resize_file(folder / "a", kLarge, error);
  if (error) GTEST_SKIP() << "no sparse files here: " << error.message();
  std::ifstream setting("/proc/sys/vm/overcommit_memory");
  if (int mode = 0; setting >> mode && mode == 2) GTEST_SKIP() << "this system commits all it maps";
  const MappedFile file(folder / "a");
  EXPECT_EQ(file.size(), kLarge);
  EXPECT_EQ(file.text().substr(0, 3), "abc");
}
#endif

}  // namespace
}  // namespace candela::io
