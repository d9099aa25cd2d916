#pragma once

#import <MetalPerformanceShaders/MPSMatrixTypes.h>

NS_ASSUME_NONNULL_BEGIN

/// The k largest values of each row (k at most 16) and their columns plus `indexOffset`, in descending order.
@interface MPSMatrixFindTopK : MPSMatrixUnaryKernel
@property(readwrite, nonatomic) NSUInteger sourceRows;
@property(readwrite, nonatomic) NSUInteger sourceColumns;
@property(readwrite, nonatomic) NSUInteger indexOffset;
@property(readwrite, nonatomic) NSUInteger numberOfTopKValues;
- (instancetype)initWithDevice:(id<MTLDevice>)device numberOfTopKValues:(NSUInteger)numberOfTopKValues;
- (instancetype)initWithDevice:(id<MTLDevice>)device NS_UNAVAILABLE;
- (void)encodeToCommandBuffer:(id<MTLCommandBuffer>)commandBuffer
                  inputMatrix:(MPSMatrix*)inputMatrix
            resultIndexMatrix:(MPSMatrix*)resultIndexMatrix
            resultValueMatrix:(MPSMatrix*)resultValueMatrix;
@end

NS_ASSUME_NONNULL_END
