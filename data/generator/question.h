#pragma once

#include <string>

#include "query.h"
#include "random.h"

namespace text_to_sql {

/// Says `query` in English, in one of many ways. The words never depend on the schema's names.
std::string question(Random& random, const Query& query);

}  // namespace text_to_sql
