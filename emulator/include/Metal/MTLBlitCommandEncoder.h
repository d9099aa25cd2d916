#pragma once

#import <Metal/MTLCommandEncoder.h>
#import <Metal/MTLComputePipeline.h>
